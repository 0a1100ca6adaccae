/** The first thing that the guest prints on its serial port: its kernel works. */
export const ALIVE_MARKER = 'VMSNAP-ALIVE';

/** What the guest prints when its memory is filled. */
export const READY_MARKER = 'VMSNAP-READY';

/** What the counter of the guest prints, with its number, five times a second. */
export const COUNT_MARKER = 'VMSNAP-COUNT';

/** How the init script fills the guest's memory. */
export interface Filling {
  /** Copies of busybox and of the kernel's own text files in a tmpfs: binaries, text, and duplicates of pages. */
  copies: number;
  /** What no codec shrinks. */
  randomMiB: number;
  /** Records in the associative array of an awk process: a small heap. */
  heapRecords: number;
  /** The heap of a Node process, if the archive carries one; 0 for none. */
  nodeHeapMiB: number;
  /** Memory that is written over and over once the counter runs, each page with something else each time; 0: none. */
  dirtyMiB: number;
}

/** The writer writes once in so many seconds, beside what that takes. */
const DIRTY_PAUSE_SECONDS = 0.3;

export function initScript(filling: Filling): string {
  return `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
echo ${ALIVE_MARKER}
mkdir -p /proc /sys /dev /memory
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o size=90% memory /memory
for module in /modules/*.ko; do [ ! -e "$module" ] || insmod "$module"; done
# From here on the serial port carries only our lines.
dmesg -n 1

copy=0
while [ $copy -lt ${filling.copies} ]; do
  cat /proc/kallsyms /proc/cpuinfo /proc/iomem /proc/interrupts /proc/slabinfo > /memory/text.$copy
  dmesg >> /memory/text.$copy
  cp /bin/busybox /memory/program.$copy
  copy=$((copy + 1))
done
dd if=/dev/urandom of=/memory/random bs=64k count=${filling.randomMiB * 16} 2>/dev/null

awk 'BEGIN {
  for (i = 0; i < ${filling.heapRecords}; i++) record["user-" i] = "name=guest" i ";visits=" i * 7 % 1013
  print "" > "/memory/heap-is-full"; close("/memory/heap-is-full")
  system("sleep 1000000")
}' &
while [ ! -e /memory/heap-is-full ]; do sleep 0.05; done
${filling.nodeHeapMiB > 0 ? nodeHeap(filling.nodeHeapMiB) : ''}
${filling.dirtyMiB > 0 ? writer(filling.dirtyMiB) : ''}
echo ${READY_MARKER}
count=0
while :; do
  count=$((count + 1))
  echo ${COUNT_MARKER} $count
  sleep 0.2
done
`;
}

/** Copies a file over another, from 64 KiB further on each time. */
function writer(dirtyMiB: number): string {
  const blocks = dirtyMiB * 16;
  return `: > /memory/from
while [ "$(wc -c < /memory/from)" -lt ${(dirtyMiB + 1) * 2 ** 20} ]; do
  cat /memory/text.* /memory/program.* /memory/random >> /memory/from
done
{
  round=0
  while :; do
    round=$((round + 1))
    dd if=/memory/from of=/memory/dirty bs=64k skip=$((round % 16)) count=${blocks} conv=notrunc 2>/dev/null
    sleep ${DIRTY_PAUSE_SECONDS}
  done
} &`;
}

function nodeHeap(heapMiB: number): string {
  return `/node --max-old-space-size=${heapMiB * 2} /heap.js ${heapMiB} /memory/node-heap-is-full &
while [ ! -e /memory/node-heap-is-full ]; do sleep 0.05; done`;
}

/** The program that a Node process in the guest runs: `node heap.js MIB READY-FILE`. */
export const NODE_HEAP_SCRIPT = `
const { writeFileSync } = require('node:fs');
const limitBytes = Number(process.argv[2]) * 2 ** 20;
const records = new Map();
const blobs = [];
for (let i = 0; process.memoryUsage.rss() < limitBytes; i++) {
  const history = Array.from({ length: 8 }, (_, k) => ({ at: 1.7e12 + i * 977 + k, amount: Math.sin(i + k) * 1000 }));
  records.set('order-' + i, { id: i, customer: 'customer ' + (i * 31) % 9973, paid: i % 3 === 0, history });
  if (i % 64 === 0) blobs.push(Buffer.from(JSON.stringify(history).repeat(16)));
}
writeFileSync(process.argv[3], '');
setInterval(() => records.set('tick', { id: Date.now() }), 100);
`;
