/** What a DSA device did in one save: the difference between its reports before and after, and what to warn of. */
import type { DsaCounters, DsaQueueReport, DsaReports } from '../native/binding.js';
import type { DeviceShare } from './pipeline/saveWorker.js';
import type { DsaQueueRun, DsaRun, Warning } from './types.js';

export function describeDsaRun(
  before: DsaReports,
  after: DsaReports,
  shares: readonly DeviceShare[],
  selfCheck: boolean,
): DsaRun {
  const sum = (of: (share: DeviceShare) => number) => shares.reduce((total, share) => total + of(share), 0);
  return {
    emulated: after.emulated,
    queues: after.queues.map((queue) => queueRun(queue, countersOf(before, queue.node))),
    times: {
      submissionCpuSeconds: after.submissionCpuSeconds - before.submissionCpuSeconds,
      completionCpuSeconds: after.completionCpuSeconds - before.completionCpuSeconds,
      reachableCpuSeconds: after.reachableCpuSeconds - before.reachableCpuSeconds,
      waitingSeconds: after.waitingSeconds - before.waitingSeconds,
      emulatorCpuSeconds: after.emulated ? after.emulatorCpuSeconds! - before.emulatorCpuSeconds! : undefined,
    },
    pagesZero: sum((share) => share.pagesZero),
    pagesCheckedByCpu: sum((share) => share.pagesByCpu),
    selfCheck: selfCheck
      ? { pages: sum((share) => share.pagesChecked), wrong: sum((share) => share.pagesWrong) }
      : undefined,
  };
}

function countersOf(reports: DsaReports, node: string): DsaCounters | undefined {
  return reports.queues.find((queue) => queue.node === node)?.counters;
}

function queueRun(queue: DsaQueueReport, before: DsaCounters | undefined): DsaQueueRun {
  const { node, numaNode, way, batches, depth, batchPages, sick, reason } = queue;
  const counters = Object.fromEntries(
    Object.entries(queue.counters).map(([name, count]) => [name, count - (before?.[name as keyof DsaCounters] ?? 0)]),
  ) as unknown as DsaCounters;
  return { node, numaNode, way, batches, depth, batchPages, sick, reason, counters };
}

/** The image is right in each case, but the device is not what it should be. `mayHaveChanged`: somebody wrote the source. */
export function dsaWarnings(run: DsaRun, mayHaveChanged: boolean): Warning[] {
  return [...wrongAnswers(run, mayHaveChanged), ...sickQueues(run)];
}

function wrongAnswers({ selfCheck }: DsaRun, mayHaveChanged: boolean): Warning[] {
  if (selfCheck === undefined || selfCheck.wrong === 0) return [];
  const doubt = mayHaveChanged ? '; the source may have been written meanwhile, which looks the same' : '';
  return [
    {
      code: 'dsa-wrong-answer',
      message:
        `the DSA device was wrong about ${selfCheck.wrong} of ${selfCheck.pages} pages${doubt}: ` +
        'the answers of the CPU were used, and the device no longer',
    },
  ];
}

function sickQueues({ queues, selfCheck }: DsaRun): Warning[] {
  const wrong = selfCheck !== undefined && selfCheck.wrong > 0;
  return queues
    .filter(({ way, counters, sick }) => way !== 'none' && (counters.timesSick > 0 || (sick && !wrong)))
    .map((queue) => ({
      code: 'dsa-queue-sick',
      message:
        `the DSA queue ${queue.node} was set aside (${causeOf(queue)})${queue.sick ? '' : ' and came back'}: ` +
        'the CPU did its work; "vmsnap doctor" looks at it',
    }));
}

/** A queue that came back has no reason any more. */
function causeOf({ reason, counters: { lost, errors } }: DsaQueueRun): string {
  if (reason !== '') return reason;
  return lost > 0 ? `operations that were not answered: ${lost}` : `operations that failed: ${errors}`;
}
