#!/usr/bin/env bash
# What `npm test` runs once TypeScript is compiled: the native tests, then the tests of everything above them.
# VMSNAP_NATIVE_TESTS=0 leaves the native ones out, where another Node is all that is new.
# Words after `npm test --` are files of tests, patterns too: `npm test -- dist/test/guest/guest.test.js 'dist/test/lib/**'`.
# Files run two at a time, in groups (VMSNAP_TEST_LANES=1: one), but for those that change what the machine has only one of.
# Whatever failed is said once more at the end, where a log of thousands of lines shows it.
# The last line is "N passed, N failed, N skipped", counted from ava's own summaries.
set -uo pipefail
shopt -s globstar nullglob
cd "$(dirname "$0")/.." || exit 1

LANES=${VMSNAP_TEST_LANES:-2}
# Few enough that the lanes end at about the same time; each group starts ava once.
GROUP_FILES=5

section() { printf '\n== %s\n' "$*"; }

scratch=$(mktemp -d)
export scratch
trap 'rm -rf "$scratch"' EXIT

# The longest first, so that no lane is left with them at the end.
test_files() {
  if [ $# -gt 0 ]; then
    local pattern
    # Unquoted: that is what makes files of a pattern.
    for pattern in "$@"; do printf '%s\n' $pattern; done | grep '\.test\.js$'
    return
  fi
  local folder
  for folder in guest cli lib formats native structure; do printf '%s\n' dist/test/$folder/**/*.test.js; done
  find dist/test -name '*.test.js' | grep -vE '^dist/test/(guest|cli|lib|formats|native|structure)/'
}

# There is one pool of huge pages, and tests change its size.
needs_machine_alone() { grep -l 'onHugePages(' "$@"; }

# The failed tests of a group by name, then what ava says of them below its rule.
failures_of() {
  grep -E '✘' "$1"
  sed -n '/^  ─$/,$p' <(sed 's/\x1b\[[0-9;]*m//g' "$1")
}
export -f failures_of

# Runs some files one after the other, and says all of it at once when it is done.
run_group() {
  local log plain code passed failed skipped
  log=$(mktemp "$scratch/log.XXXXXX")
  # A plain terminal type, so that ava marks a passed test with the sign that is counted below.
  TERM=xterm node_modules/.bin/ava "$@" > "$log" 2>&1 < /dev/null
  code=$?
  plain=$(sed 's/\x1b\[[0-9;]*m//g' "$log")
  # Sums the numbers of the summary lines that match, such as "  12 tests passed".
  count() { awk -v pattern="^ *[0-9]+ ($1)\$" '$0 ~ pattern { sum += $1 } END { print sum + 0 }' <<< "$plain"; }
  passed=$(count 'tests? passed')
  # Where something failed, ava's summary says nothing of what passed.
  if [ "$passed" -eq 0 ]; then passed=$(grep -c '^  ✔ [^[]' <<< "$plain"); fi
  failed=$(count 'tests? failed|hooks? failed|uncaught exceptions?|unhandled rejections?|tests? timed out')
  skipped=$(count 'tests? skipped')
  # A file that ended before its tests did, or had none, has no line of its own in the summary.
  if [ "$code" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
  echo "$passed $failed $skipped" >> "$scratch/counts"
  flock "$scratch" cat "$log"
  if [ "$code" -ne 0 ]; then failures_of "$log" | flock "$scratch" tee -a "$scratch/failures" > /dev/null; fi
  return "$code"
}
export -f run_group

if [ "${VMSNAP_NATIVE_TESTS:-1}" = 0 ]; then
  echo 'The native tests are left out (VMSNAP_NATIVE_TESTS=0).'
else
  section 'Native tests'
  make --no-print-directory -C native test || {
    code=$?
    echo 'The native tests failed; the others were not run.' >&2
    exit "$code"
  }
fi

section 'Tests'
mapfile -t files < <(test_files "$@")
if [ ${#files[@]} -eq 0 ]; then
  echo 'There is no such file of tests.' >&2
  exit 1
fi
mapfile -t alone < <(needs_machine_alone "${files[@]}")
mapfile -t others < <(printf '%s\n' "${files[@]}" | grep -vxFf <(printf '%s\n' '-' "${alone[@]}"))
code=0
if [ ${#others[@]} -gt 0 ]; then
  printf '%s\n' "${others[@]}" | xargs -P "$LANES" -n "$GROUP_FILES" bash -c 'run_group "$@"' run_group || code=1
fi
if [ ${#alone[@]} -gt 0 ]; then run_group "${alone[@]}" || code=1; fi

if [ -s "$scratch/failures" ]; then
  section 'What failed'
  cat "$scratch/failures"
fi
section 'Result'
read -r passed failed skipped < <(awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }' "$scratch/counts")
if [ "$code" -eq 0 ] && [ $((passed + skipped)) -eq 0 ]; then
  echo 'No test was run.' >&2
  code=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
exit "$code"
