#!/usr/bin/env bash
# tools/fuzz.sh BUILD_DIR SECONDS [NAME...]: builds each libFuzzer program (test/fuzz/ROOM/*_fuzz), or those named, and runs it for so
# long, as many at once as there are processors. Seeds are test/fuzz/ROOM/corpus (committed, not written to); new inputs, crashes and
# the log go to BUILD_DIR/corpus/NAME. Prints `pass NAME: how much` or `fail NAME: why` for each.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
build=$1 seconds=$2
shift 2

if ! [[ $seconds =~ ^[1-9][0-9]*$ ]]; then
  echo "fuzz: seconds are a number from 1 on, not '$seconds'" >&2
  exit 2
fi
mapfile -t programs < <(ninja -C "$build" -t targets all | sed -nE 's/^(test\/fuzz\/[^ ]*_fuzz): .*/\1/p' | sort)
if [ $# -gt 0 ]; then
  wanted=("$@")
  mapfile -t programs < <(for p in "${programs[@]}"; do [[ " ${wanted[*]} " == *" $(basename "$p" _fuzz) "* ]] && echo "$p"; done)
fi
if [ ${#programs[@]} -eq 0 ] || [ ${#programs[@]} -lt $# ]; then
  echo "fuzz: $build does not have test/fuzz/ROOM/*_fuzz for: ${*:-any}" >&2
  exit 1
fi
ninja -C "$build" "${programs[@]}" >&2 || exit 1

run_one() { # PROGRAM
  local name work log why
  name=$(basename "$1" _fuzz)
  work=$build/corpus/$name log=$build/corpus/$name.log
  mkdir -p "$work"
  if "$build/$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="$work/crash-" "$work" "$(dirname "$1")/corpus" >"$log" 2>&1; then
    echo "pass fuzz $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs in $seconds s"
  else
    why=$(grep -aE "^${name}_fuzz: |ERROR|runtime error" "$log" | head -n 1)
    echo "fail fuzz $name: ${why:-it ended badly}; the input is in $work, the log is $log"
    return 1
  fi
}

status=0 running=0
for program in "${programs[@]}"; do
  if [ $running -ge "$(nproc)" ]; then
    wait -n || status=1
    running=$((running - 1))
  fi
  run_one "$program" &
  running=$((running + 1))
done
while [ $running -gt 0 ]; do
  wait -n || status=1
  running=$((running - 1))
done
exit $status
