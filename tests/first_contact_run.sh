#!/bin/bash
# bench/first_contact.sh: packs a small folder, then runs it as a machine would that has no build
# folder, no compiler, no network, and libtorch somewhere else.
#
#   tests/first_contact_run.sh SOURCE_FOLDER
set -eu
root=$(mktemp -d /var/tmp/first_contact.XXXXXX)
trap 'rm -rf "$root"' EXIT
"$1/bench/first_contact.sh" pack --small "$root/packed"
size=$(du -sm "$root/packed" | cut -f1)
[ "$size" -le 55 ] || { echo "the folder has $size MB, more than 55"; exit 1; }

prefix=$(python3 -c 'import sys; print(sys.base_prefix)')
site=$(dirname "$(sed -n 's/^LIBTORCH_ROOT:PATH=//p' "$1/build/CMakeCache.txt")")
case $site/ in "$1"/*) hide=() ;; *) hide=(--tmpfs "$site") ;; esac  # the build folder is not shown
links=()
for name in bin sbin lib lib64; do
  if [ -L /$name ]; then
    links+=(--symlink "$(readlink /$name)" /$name)
  else
    links+=(--ro-bind-try /$name /$name)
  fi
done
elsewhere() {
  bwrap --unshare-all --die-with-parent --ro-bind /usr /usr "${links[@]}" \
    --ro-bind "$prefix" "$prefix" "${hide[@]}" --ro-bind "$site" /site \
    --proc /proc --dev /dev --ro-bind-try /sys /sys \
    --tmpfs /tmp --bind "$root/packed" /packed --chdir / --clearenv \
    --setenv PATH "$prefix/bin:/usr/bin:/bin" --setenv HOME /tmp --setenv PYTHONPATH /site \
    --setenv OMP_NUM_THREADS 1 "$@"
}
elsewhere true || { echo "SKIPPED: bubblewrap can't build a sandbox here"; exit 0; }
elsewhere [ ! -e "$1" ] || { echo "the sandbox shows $1"; exit 1; }

sections=(look tests steps profile score parts sandbox small agent)
elsewhere /packed/first_contact.sh run --cpu "${sections[@]}" || {
  tail -n 20 "$root"/packed/out/*.log
  exit 1
}
page=$root/packed/out/first_contact.md
for section in "${sections[@]}"; do
  grep -q "^## $section\$" "$page" || { echo "no section $section in first_contact.md"; exit 1; }
done
grep -q '| experiments | 3 | 3 |' "$page"
grep -q '| libraries missing | none | none |' "$page"

# A section that fails is told, and the next one runs all the same.
rm "$root/packed/programs/gpu_test"
if elsewhere /packed/first_contact.sh run --cpu tests look; then echo "it did not fail"; exit 1; fi
grep -A4 '^## tests' "$page" | grep -q 'FileNotFoundError'
grep -q '| libraries missing | none | none |' "$page"
