/** What a DSA device did in one save, for the log: a line for each queue, and one for the time that it took. */
import { basename } from 'node:path';
import type { DsaQueueRun, DsaRun } from '../../lib/index.js';
import { printable } from './printable.js';
import { formatBytes } from './units.js';

export function dsaLog({ queues, times, emulated }: DsaRun): string[] {
  const used = queues.filter(({ way }) => way !== 'none');
  const note = emulated ? '; the device is emulated, so its speed means nothing' : '';
  return [
    ...used.map(queueLine),
    `dsa: CPU time of submission ${milliseconds(times.submissionCpuSeconds)}, of completion ` +
      `${milliseconds(times.completionCpuSeconds)}, of making pages reachable ` +
      `${milliseconds(times.reachableCpuSeconds)}; waited ${milliseconds(times.waitingSeconds)}${note}`,
  ];
}

function milliseconds(seconds: number): string {
  return `${(seconds * 1000).toFixed(1)} ms`;
}

function queueLine({ node, way, sick, reason, counters }: DsaQueueRun): string {
  const state = sick ? `; set aside: ${printable(reason)}` : '';
  return (
    `dsa ${printable(basename(node))} by ${way}: ${counters.descriptors} descriptors, ${counters.batches} batches, ` +
    `${formatBytes(counters.bytes)}; pages: ${counters.pagesZero} zero, ${counters.pagesNotZero} data, ` +
    `${counters.pagesUnknown} left to the CPU; ${counters.pageFaults} page faults, ${counters.batchFaults} of lists, ` +
    `${counters.retries} retries, ${counters.shortWrites} short writes, ${counters.errors} errors, ` +
    `${counters.lost} lost, ${counters.timesSick} times sick${state}`
  );
}
