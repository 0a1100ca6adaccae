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
  /** Of that process beside its heap: a word of each page is written over and over; 0: none. */
  dirtyMiB: number;
}

/** What the guest does beside counting. */
export interface Duties {
  /** The guest agent, at its port. */
  readonly runsAgent: boolean;
  /** Each number is in a file on the first virtio disk (ext4), and there to stay, before it is printed. */
  readonly countsOnDisk: boolean;
}

/** Where the guest has qemu-ga. */
export const AGENT_PATH = '/bin/qemu-ga';

/** On the disk: the number, with zeros before it, so that writing it anew replaces all of it at once. */
export const COUNT_FILE = 'count';
const COUNT_DIGITS = 8;

export function initScript(filling: Filling, { runsAgent, countsOnDisk }: Duties): string {
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
${filling.nodeHeapMiB > 0 ? nodeHeap(filling) : ''}
${countsOnDisk ? MOUNT_DISK : ''}
${runsAgent ? START_AGENT : ''}
echo ${READY_MARKER}
count=0
while :; do
  count=$((count + 1))
${countsOnDisk ? COUNT_ON_DISK : ''}
  echo ${COUNT_MARKER} $count
  sleep 0.2
done
`;
}

const MOUNT_DISK = `mkdir -p /disk
mount -t ext4 /dev/vda /disk`;

const COUNT_ON_DISK = `  printf '%0${COUNT_DIGITS}d\\n' $count | dd of=/disk/${COUNT_FILE} conv=notrunc,fsync 2> /dev/null`;

// Its port is called /dev/virtio-ports/... by udev, which is not here.
const START_AGENT = `mkdir -p /run
${AGENT_PATH} --method virtio-serial --path /dev/vport*p1 --statedir /run --pidfile /run/agent --logfile /run/agent.log &`;

function nodeHeap({ nodeHeapMiB, dirtyMiB }: Filling): string {
  return `/node --max-old-space-size=${nodeHeapMiB * 2} /heap.js ${nodeHeapMiB} /memory/node-heap-is-full ${dirtyMiB} &
while [ ! -e /memory/node-heap-is-full ]; do sleep 0.05; done`;
}

/** The program that a Node process in the guest runs: `node heap.js MIB READY-FILE DIRTY-MIB`. */
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
const dirty = Buffer.alloc(Number(process.argv[4]) * 2 ** 20, blobs[0]);
writeFileSync(process.argv[3], '');
let round = 0;
setInterval(() => {
  round++;
  for (let at = 0; at < dirty.length; at += 4096) dirty.writeUInt32LE(round, at);
}, 100);
setInterval(() => records.set('tick', { id: Date.now() }), 100);
`;
