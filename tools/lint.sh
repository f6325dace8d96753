#!/usr/bin/env bash
# tools/lint.sh format: clang-format in place. tools/lint.sh check: what is formatted otherwise, what clang-tidy says of
# the files in build/compile_commands.json, and shellcheck of the scripts where it is installed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

mapfile -t sources < <(find src bpf include skel test \( -name '*.cpp' -o -name '*.h' -o -name '*.c' \) -type f | sort)
if [ "${1:-}" = format ]; then
  exec clang-format-19 -i "${sources[@]}"
fi

status=0
clang-format-19 --dry-run --Werror "${sources[@]}" || status=1

# The skeletons are headers that the build makes: without them clang-tidy cannot read the datapath.
mapfile -t skeletons < <(ninja -C build -t targets all | sed -nE 's/^([^ ]*\.skel\.h): .*/\1/p')
ninja -C build "${skeletons[@]}" >/dev/null || status=1
mapfile -t units < <(find src -name '*.cpp' | sort)
run-clang-tidy-19 -quiet -p build "${units[@]/#/$PWD/}" 2>/dev/null | grep -v '^\[\|^clang-tidy-19 ' | sed "s|$PWD/||g"
[ "${PIPESTATUS[0]}" -eq 0 ] || status=1

if command -v shellcheck >/dev/null; then
  grep -rlE '^#!.*\b(ba)?sh$' .ci tools test systemd examples --include='*' --exclude-dir=__pycache__ | xargs shellcheck -x -P SCRIPTDIR -S warning || status=1
else
  echo "lint: shellcheck is not installed: the scripts were not looked at" >&2
fi
exit $status
