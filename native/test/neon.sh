#!/usr/bin/env bash
# Builds the tests for aarch64 and runs them under qemu. Where the tools are missing this is skipped, with the reason;
# VMSNAP_REQUIRE_CROSS=1 makes that a failure.
set -euo pipefail
compiler=$1
emulator=$2
native=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

for tool in "$compiler" "$emulator"; do
  if ! command -v "$tool" >/dev/null; then
    echo "SKIPPED: the aarch64 tests: $tool is not installed (Debian: g++-aarch64-linux-gnu, qemu-user)" >&2
    [ "${VMSNAP_REQUIRE_CROSS:-0}" != 1 ]
    exit
  fi
done
exec make --no-print-directory -C "$native" VARIANT=neon run
