#!/bin/sh
# Does the loop claim a gain where there is none? Replays ten replies of which each adds one
# static_assert to train.cpp: other code, the same program. The baseline is so judged against
# itself ten times, under the greedy rule, which keeps what luck brings; then what was kept is
# proven as always. Says "not proven" and exits 0 if the loop saw through it. By the proof's own 95 %
# interval, one night in forty ends with "verified" and 1. One in eleven keeps nothing, so that
# nothing can be proven: it exits 2; run it again then.
#
#   bench/null_night.sh [options of agent run, such as --task demo]
#
# Takes eleven trainings and, for the proof, eight more. The run stays, as null-TIME; build/agent
# delete removes it. AGENT names another program than build/agent.
set -eu
agent=${AGENT:-build/agent}
tag=null-$(date +%Y%m%d-%H%M%S)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Each behind another constant, so that every reply applies whatever was kept before it.
for n in 1 2 3 4 5 6 7 8 9 10; do
  folder=$scratch/nothing/experiments/$(printf %04d "$n")
  constant=$(grep '^constexpr .*;' train.cpp | sed -n "${n}p")
  mkdir -p "$folder"
  cat > "$folder/reply.md" << END
IDEA: nothing, number $n
WHY: The program stays what it is, so every gain is luck.
<<<<<<< SEARCH
$constant
=======
$constant
static_assert($n);
>>>>>>> REPLACE
END
done

"$agent" run --tag "$tag" --keep greedy --max-experiments 10 --replay "$scratch/nothing/" "$@"
echo
"$agent" status --tag "$tag" --json > "$scratch/status"
"$agent" status --tag "$tag" | tee "$scratch/words"
if grep -q '^by .*builtin' "$scratch/words"; then
  echo "null night: a reply did not apply or build, so another proposal took its place"
  exit 2
elif grep -q '"verified": *true' "$scratch/status"; then
  echo "null night: a gain was verified that is none"
  exit 1
elif grep -q 'not proven: [-+0-9.]* (95 %' "$scratch/words"; then
  echo "null night: what luck kept was not proven"
else
  echo "null night: nothing was kept or measured anew, so nothing can be said; run it again"
  exit 2
fi
