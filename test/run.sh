#!/usr/bin/env bash
# What `npm test` runs once TypeScript is compiled: the native tests, then the tests of everything above them.
# VMSNAP_NATIVE_TESTS=0 leaves the native ones out, where another Node is all that is new.
# Words after `npm test --` go to ava: `npm test -- dist/test/guest/guest.test.js`.
# The last line is "N passed, N failed, N skipped", counted from ava's own summary.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

section() { printf '\n== %s\n' "$*"; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT

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
# A plain terminal type, so that ava marks a passed test with the sign that is counted below.
TERM=xterm node_modules/.bin/ava "$@" 2>&1 </dev/null | tee "$log"
code=${PIPESTATUS[0]}

plain_log() { sed 's/\x1b\[[0-9;]*m//g' "$log"; }
# Sums the numbers of the summary lines that match, such as "  12 tests passed".
count() { plain_log | awk -v pattern="^ *[0-9]+ ($1)\$" '$0 ~ pattern { sum += $1 } END { print sum + 0 }'; }
passed=$(count 'tests? passed')
# Where something failed, ava's summary says nothing of what passed.
if [ "$passed" -eq 0 ]; then passed=$(plain_log | grep -c '^  ✔ [^[]'); fi
failed=$(count 'tests? failed|hooks? failed|uncaught exceptions?|unhandled rejections?|tests? timed out')
skipped=$(count 'tests? skipped')

# A file that ended before its tests did, or had none, has no line of its own in the summary.
if [ "$code" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
if [ "$code" -eq 0 ] && [ $((passed + skipped)) -eq 0 ]; then
  echo 'No test was run.' >&2
  code=1
fi

section 'Result'
echo "$passed passed, $failed failed, $skipped skipped"
exit "$code"
