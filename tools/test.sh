#!/usr/bin/env bash
# `make test`: builds with both compilers, runs the checks of test/check, fuzzes the parsers that the kernel runs for FUZZ_SECONDS (60), and
# then runs every test (test/run). Nothing stops at the first failure except the shipped build, without which there is nothing to test.
# A check is a program that prints `pass NAME`, `fail NAME: why` or `skip NAME: why` for each case. The last line is the sum of all.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

passed=0 failed=0 skipped=0
say() { printf '%s\n' "$*"; }
sum() {
  local line="$passed passed, $failed failed"
  if [ $skipped -gt 0 ]; then line+=", $skipped skipped"; fi
  say "$line"
}
count() { # RESULT-LINE
  case $1 in
    "pass "*) passed=$((passed + 1)) ;;
    "fail "*) failed=$((failed + 1)) ;;
    "skip "*) skipped=$((skipped + 1)) ;;
    *) return ;;
  esac
}
record() { # RESULT NAME
  say "$1 $2"
  count "$1 $2"
}

build_shipped() {
  "${MAKE:-make}" --no-print-directory build/casad && ninja -C build
}
build_gcc() {
  "${MAKE:-make}" --no-print-directory build-gcc/build.ninja && ninja -C build-gcc
}

run_check() { # COMMAND...: each line is a case; a check that ends badly without having named a failure is one itself
  local line before=$failed lines status
  lines=$("$@") && status=0 || status=$?
  while IFS= read -r line; do
    case $line in "pass "*) ;; *) say "$line" ;; esac
    count "$line"
  done <<<"$lines"
  if [ $status -ne 0 ] && [ $failed -eq $before ]; then record fail "$1: exit status $status"; fi
  if [ $status -eq 0 ] && [ $failed -ne $before ]; then record fail "$1: exit status 0 with failures"; fi
  say "$1: $(grep -c '^pass ' <<<"$lines") passed"
}

# The parsers that the kernel runs, built apart, with the sanitizers; two at once. The other targets: make fuzz.
run_fuzz() {
  if "${MAKE:-make}" --no-print-directory build-fuzz/build.ninja; then
    run_check tools/fuzz.sh build-fuzz "${FUZZ_SECONDS:-60}" dns hello http1 h2
  else
    record fail "set up build-fuzz"
  fi
}

run_suites() {
  local log status counts
  log=$(mktemp)
  test/run build | tee "$log"
  status=${PIPESTATUS[0]}
  counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$log" | tail -n 1)
  rm -f "$log"
  if [ -z "$counts" ]; then
    record fail "test/run: exit status $status without a result"
    return
  fi
  read -r p _ f _ s _ <<<"${counts//,/ } 0"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then record fail "test/run: exit status $status"; fi
}

if ! build_shipped; then
  record fail "build with clang"
  sum
  exit 1
fi
record pass "build with clang"
if build_gcc; then record pass "build with g++"; else record fail "build with g++"; fi
for check in test/check/*.py; do
  if [ -x "$check" ]; then run_check "$check" build; fi
done
run_fuzz
run_suites
sum
[ $failed -eq 0 ]
