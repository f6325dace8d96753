#!/usr/bin/env bash
# tools/fuzz.sh BUILD_DIR SECONDS: builds each libFuzzer program (test/fuzz/ROOM/*_fuzz) and runs it for so long. Seeds are
# test/fuzz/ROOM/corpus (committed, not written to); new inputs and crashes go to BUILD_DIR/corpus/NAME.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
build=$1 seconds=$2 status=0

mapfile -t programs < <(ninja -C "$build" -t targets all | sed -nE 's/^(test\/fuzz\/[^ ]*_fuzz): .*/\1/p' | sort)
if [ ${#programs[@]} -eq 0 ]; then
  echo "fuzz: $build has no test/fuzz/ROOM/*_fuzz" >&2
  exit 1
fi
ninja -C "$build" "${programs[@]}" || exit 1
for program in "${programs[@]}"; do
  name=$(basename "$program" _fuzz)
  work=$build/corpus/$name
  mkdir -p "$work"
  echo "== $name: $seconds s"
  "$build/$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="$work/crash-" "$work" "$(dirname "$program")/corpus" || { echo "fuzz: $name FAILED, see $work"; status=1; }
done
exit $status
