#!/usr/bin/env bash
# CPU time of the host's side of DSA, beside the CPU's own way, and what waiting for a device costs; markdown tables.
# native/test/dsa_host_cost.cc and native/test/dsa_waiting.cc tell what is measured. The device is in software: only the
# host's side means anything.
#
#   bash bench/dsa-host-cost.sh [MIB [ROUNDS]]      default 512 MiB a file, 7 rounds; some minutes
#
# As root it mounts a tmpfs with huge pages and a hugetlbfs, takes huge pages from the kernel for the time that it runs,
# and gives all of it back; without, these rows are left out with the reason.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mib=${1:-512}
rounds=${2:-7}
make --no-print-directory -C native dsa-host-cost dsa-waiting >&2
programs=native/out/plain

folder=$(mktemp -d)
shm=$(mktemp -d /dev/shm/vmsnap-dsa-XXXXXX)
pages_file=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
pages_before=$(cat "$pages_file" 2>/dev/null || echo 0)
mounted=()
clean_up() {
  for path in "${mounted[@]}"; do umount "$path"; done
  if [ ${#mounted[@]} -gt 0 ]; then echo "$pages_before" >"$pages_file"; fi
  rm -rf "$folder" "$shm"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

# mount_pages FOLDER TYPE OPTIONS: false with `reason` where that is not permitted.
mount_pages() {
  mkdir "$1"
  reason=$(mount -t "$2" -o "$3" vmsnap-bench "$1" 2>&1) || return 1
  mounted+=("$1")
}

# take_huge_pages MIB: so many free ones more than there were in all.
take_huge_pages() {
  local wanted=$((pages_before + $1 / 2))
  reason="the kernel has no $wanted huge pages to give"
  echo "$wanted" >"$pages_file" 2>/dev/null && [ "$(cat "$pages_file")" -ge "$wanted" ]
}

# cost_row NAME FILE
cost_row() {
  local name=$1 file=$2 contents
  for contents in zero half mixed; do
    : >"$file"
    "$programs/dsa_host_cost" "$file" "$mib" "$contents" "$rounds" ready |
      awk -v name="$name" -v contents="$contents" '{
        printf "| %s | %s | %.0f | %.0f | %.2f | %.1f + %.1f + %.1f | %.0f | %.2f | %.1f + %.1f + %.1f |\n", name, contents,
          $1, $3, $3 / $1, $7, $8, $9, $5, $5 / $1, $10, $11, $12
      }'
    rm "$file"
  done
}

left_out() { echo "| $1 | left out: $reason | | | | | | | |"; }

cat <<END
### CPU time of the host's side

Milliseconds of CPU time for each GiB, kernel included, the device's own work not: medians of $rounds runs in turn over $mib MiB. \`half\`: every other
MiB is zero; \`mixed\`: every other page. The parts are making reachable (and giving back) + submission + completion.

| memory | contents | pread + CPU | DSA, mapped anew | ratio | of which | DSA, mapping kept | ratio | of which |
|---|---|--:|--:|--:|--:|--:|--:|--:|
END
cost_row "$(findmnt -n -o FSTYPE -T "$folder"), page cache" "$folder/memory"
cost_row "tmpfs, 4 KiB pages" "$shm/memory"
huge=$shm/memory
if mount_pages "$folder/huge" tmpfs "huge=always,size=$((2 * mib + 2048))M"; then
  huge=$folder/huge/memory
  cost_row "tmpfs, huge=always" "$huge"
else
  left_out "tmpfs, huge=always"
fi
if mount_pages "$folder/hugetlb" hugetlbfs pagesize=2M && take_huge_pages "$mib"; then
  cost_row "hugetlbfs, 2 MiB" "$folder/hugetlb/memory"
else
  left_out "hugetlbfs, 2 MiB"
fi
if [ ${#mounted[@]} -gt 0 ]; then echo "$pages_before" >"$pages_file"; fi

cat <<END

### One GiB compared by the CPU and by an emulated DSA

The device is in software and slow: its elapsed times say nothing about a real one. The completion thread waits for it, which is part of the host's CPU time here.
Milliseconds, medians of $rounds runs in turn; the memory lies on tmpfs, $([ "$huge" = "$shm/memory" ] && echo 4 KiB pages || echo huge pages).

| contents | CPU: elapsed | CPU: CPU time | DSA, emulated: elapsed | DSA: CPU time of the host | of the CPU's |
|---|--:|--:|--:|--:|--:|
END
for contents in zero half; do
  : >"$huge"
  "$programs/dsa_host_cost" "$huge" 1024 "$contents" "$rounds" emulator |
    awk -v contents="$contents" '{ printf "| %s | %.0f | %.0f | %.0f | %.0f | %.2f |\n", contents, $2, $1, $4, $3, $3 / $1 }'
  rm "$huge"
done

cat <<END

### What waiting costs

Four batches in flight all the time, each answered after so long by a thread that notes when. Late: until the asker of that batch is awake.
This CPU $(grep -qw waitpkg /proc/cpuinfo && echo has || echo "has not") got WAITPKG (UMWAIT).

| an answer takes | CPU of the completion thread, % of a core | late, median us | late, 95 % us | requests |
|---|--:|--:|--:|--:|
END
"$programs/dsa_waiting" idle 10 | awk '{ printf "| nothing in flight, 10 s | %s | - | - | 0 |\n", $1 }'
for microseconds in 20 100 1000; do
  "$programs/dsa_waiting" $microseconds 5 |
    awk -v us="$microseconds" '{ printf "| %s us (%s us in fact) | %.1f | %s | %s | %s |\n", us, $2, $1, $3, $4, $5 }'
done
