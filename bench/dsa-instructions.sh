#!/usr/bin/env bash
# Instructions on the host's side for each 4 KiB page of zero memory that a DSA device checks, beside those of the AVX2
# check of the page, counted by callgrind; a markdown table. native/test/dsa_instructions.cc tells what is counted.
#
#   bash bench/dsa-instructions.sh           takes some minutes; needs valgrind and its header (Debian: valgrind)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
make --no-print-directory -C native dsa-instructions >&2
program=native/out/plain/dsa_instructions
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# What stands for the device's side, and the pauses of the completion thread, switch the counting off.
toggles=('*Implementation::run*' '*CpuWait::wait*' '*CpuWait::sleep*' '*ReadyDevice::write*' '*EmulatorOfQueues::write*')
options=(--tool=callgrind --separate-threads=yes --collect-atstart=no --sigill-diagnostics=no -q)
for name in "${toggles[@]}"; do options+=("--toggle-collect=$name"); done

# count PARAMETERS...: sets caller, completion (instructions) and pages.
count() {
  rm -f "$folder"/*
  pages=$(valgrind "${options[@]}" --callgrind-out-file="$folder/out" "$program" "$@" | awk '{ print $2 }')
  caller=$(cat "$folder"/out*-01 | awk '$1 == "totals:" { sum += $2 } END { print sum + 0 }')
  completion=$(cat "$folder"/out* | awk '$1 == "totals:" { sum += $2 } END { print sum + 0 }')
  completion=$((completion - caller))
}

count avx2
avx2=$caller
avx2_pages=$pages

# row NAME PARAMETERS...: with both devices.
row() {
  local name=$1
  shift
  count "$@" ready
  local ready_caller=$caller ready_completion=$completion
  count "$@" emulator
  awk -v name="$name" -v pages="$pages" -v caller="$ready_caller" -v completion="$ready_completion" \
    -v emulated=$((caller + completion)) -v avx2="$avx2" -v avx2_pages="$avx2_pages" 'BEGIN {
      per_avx2 = avx2 / avx2_pages
      total = (caller + completion) / pages
      printf "| %s | %.2f | %.2f | %.2f | %.1f %% | %.1f %% |\n", name, caller / pages, completion / pages, total,
        100 * total / per_avx2, 100 * emulated / pages / per_avx2
    }'
}

awk -v avx2="$avx2" -v pages="$avx2_pages" \
  'BEGIN { printf "AVX2 check of a zero page of 4 KiB: %.1f instructions.\n\n", avx2 / pages }'
echo "| unit, way | submission | completion | both | of AVX2's | with the looks at records not yet written |"
echo "|---|--:|--:|--:|--:|--:|"
for way in portal write; do
  for pages_in_batch in 2 4 8 16 32 64 128 256 512 1024; do
    row "batches of $pages_in_batch pages, $way" batch $way $pages_in_batch
  done
done
for way in portal write; do
  for unit_pages in 16 32 64 128 256 512; do
    row "single compares of $((unit_pages * 4)) KiB, $way" unit $way $unit_pages
  done
done
