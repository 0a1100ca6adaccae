#!/usr/bin/env bash
# format.sh --check|--write: clang-format over native/. Without clang-format this is skipped, with the reason;
# VMSNAP_REQUIRE_CLANG_FORMAT=1 makes that a failure.
set -euo pipefail
mode=${1:-}
native=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

case $mode in
  --check) arguments=(--dry-run --Werror) ;;
  --write) arguments=(-i) ;;
  *) echo "usage: format.sh --check|--write" >&2; exit 2 ;;
esac
if ! command -v clang-format >/dev/null; then
  echo "SKIPPED: formatting of native/: clang-format is not installed (Debian: clang-format)" >&2
  [ "${VMSNAP_REQUIRE_CLANG_FORMAT:-0}" != 1 ]
  exit
fi
find "$native" -path "$native/out" -prune -o \( -name '*.cc' -o -name '*.h' \) -print0 |
  xargs -0 clang-format --style=file "${arguments[@]}"
