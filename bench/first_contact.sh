#!/bin/bash
# The first quarter of an hour on a machine with a GPU, which may have neither network nor compiler.
#
#   bench/first_contact.sh pack [--small] [FOLDER]    where build/ is (test preset); less than 55 MB
#   FOLDER/first_contact.sh run [--cpu] [SECTION...]  on the other machine: needs python3 with torch
#
# `run` takes at most ten minutes and writes FOLDER/out/first_contact.md, to be committed in docs/:
# what each section showed beside what was expected (bench/first_contact.py), and a log of each.
# --cpu does the same without a GPU, to try the folder. --small packs no variants and a small task.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

fail() {
  echo "first_contact: error: $*" >&2
  exit 1
}

SYSTEM='c|m|dl|rt|pthread|resolv|util|stdc\+\+|gcc_s'
TORCH='gomp.*|torch.*|c10.*|shm|nv.*|cu(da|bl|dnn|ff|sp|so|ra|pt|fi).*|nccl'

# Copies what a program is linked with, but for glibc, g++'s own, libtorch and CUDA.
copy_libraries() { # PROGRAM TO
  local name path
  ldd "$1" | sed -n 's/^\s*\(\S*\) => \(\/.*\) (0x.*/\1 \2/p' |
    grep -vE "^lib($SYSTEM|$TORCH)\.so" |
    while read -r name path; do cp -Lf "$path" "$2/$name"; done
}

pack() {
  local small=
  if [ "${1:-}" = --small ]; then small=1; shift; fi
  local root=$here/.. build=$here/../build folder=${1:-$here/../build/first_contact}
  for program in train prepare agent score tests/gpu_test; do
    [ -x "$build/$program" ] || fail "no build/$program; run: cmake --workflow --preset test"
  done
  command -v bwrap > /dev/null || fail "bubblewrap is missing; apt-get install bubblewrap"
  mkdir -p "$folder"
  folder=$(cd "$folder" && pwd)
  rm -rf "${folder:?}"/{programs,lib,kit,checkout,bench,data,whl} "$folder"/*.tar.xz
  mkdir -p "$folder"/{programs,lib,kit,checkout,bench,data,whl}

  # Programs; variants of train.cpp are there too, as a machine without headers can't build any.
  cp "$build"/{train,prepare,agent,score,tests/gpu_test} "$folder/programs/"
  if [ -z "$small" ]; then
    python3 "$here/variants.py" "$folder/programs/train_wide" kGpuAspect=x2
    python3 "$here/variants.py" "$folder/programs/train_one_micro_batch" kGpuMicroBatch=x2
    python3 "$here/variants.py" "$folder/programs/train_oom" kGpuMicroBatch=2097152 \
      kGpuTotalBatch=2097152
  fi
  strip "$folder"/programs/*
  cp -r "$build"/kit/. "$folder/kit/" && rm "$folder"/kit/harness/*.gch
  cp "$build/candidate.json" "$root"/{train.cpp,program.md} "$folder/checkout/"
  cp "$here"/{train,reference,loader,variants,parts,cudnn_graphs,first_contact}.py "$folder/bench/"
  cp "$here/first_contact.sh" "$folder/"

  # Libraries that a machine may lack, and bubblewrap; those of CUDA and libtorch come with torch.
  # What is compiled there is linked with two of them, by their plain names.
  local program name
  for program in "$build/agent" "$build/prepare" "$build/score" "$build/train" "$(command -v bwrap)"; do
    copy_libraries "$program" "$folder/lib"
  done
  cp "$(command -v bwrap)" "$folder/lib/"
  for name in spdlog fmt crypto; do
    ln -s "$(cd "$folder/lib" && echo lib$name.so.*)" "$folder/lib/lib$name.so"
  done

  # Tasks: tiny for the tests, big for figures, and quick, which is big with another budget.
  local sizes=(--vocab 8192 --seq-len 2048 --eval-tokens 1048576)
  if [ -n "$small" ]; then sizes=(--vocab 512 --seq-len 64 --eval-tokens 16384); fi
  "$build/prepare" --source /usr/include/c++ --task tiny --vocab 512 --seq-len 64 --time-budget 3 \
    --eval-tokens 16384 --data "$folder/data"
  "$build/prepare" --source demo --task big "${sizes[@]}" --time-budget 300 --data "$folder/data"
  rm -rf "$folder/data/downloads"

  local part
  for part in programs lib kit data; do
    XZ_OPT=-1 tar cJf "$folder/$part.tar.xz" -C "$folder" "$part"
    rm -r "${folder:?}/$part"
  done

  # cuDNN's frontend, for the section `parts`; without a network that part is left out.
  [ -n "$small" ] || python3 -m pip download -q --no-deps --only-binary=:all: -d "$folder/whl" \
    --python-version "${PYTHON_VERSION:-3.12}" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
    nvidia-cudnn-frontend==1.32.0 || true
  du -sh "$folder"
}

run() {
  [ -e "$here/programs.tar.xz" ] || fail "no programs in $here; make a folder: first_contact.sh pack"
  local part
  for part in programs lib kit data; do
    [ -d "$here/$part" ] || tar xJf "$here/$part.tar.xz" -C "$here"
  done
  exec python3 "$here/bench/first_contact.py" "$here" "$@"
}

case ${1:-} in
  pack | run) "$@" ;;
  *) sed -n '3,/^set/s/^# \?//p' "$0" && exit 2 ;;
esac
