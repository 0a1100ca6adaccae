/** The reports of one image or several: a screen, a table, or JSON. */
import type { InspectReport } from '../../lib/index.js';
import type { CommandContext } from '../command.js';
import { describeFailure, type Failure, failureJson } from '../failure.js';
import { StoppedError } from '../signals.js';
import { reportJson } from './reportJson.js';
import { reportScreen } from './screen.js';
import { summaryTable } from './summaryTable.js';
import { reportExitCode, trustMessage } from './trust.js';

export interface Inspected {
  readonly path: string;
  readonly report: InspectReport | undefined;
  readonly failure: Failure | undefined;
  readonly exitCode: number;
}

export async function printReports(context: CommandContext, images: readonly string[]): Promise<number> {
  const { args, answer } = context;
  const inspected: Inspected[] = [];
  for (const image of images) inspected.push(await inspectOne(context, image));
  if (args.flag('json')) await answer.json(reportsJson(inspected));
  else if (inspected.length > 1) await answer.lines(summaryTable(inspected, args.flag('bytes')));
  else if (inspected[0]!.report !== undefined) {
    await answer.lines(reportScreen(inspected[0]!.report, args.flag('bytes')));
  }
  return inspected.find(({ exitCode }) => exitCode !== 0)?.exitCode ?? 0;
}

async function inspectOne({ signal, talk }: CommandContext, path: string): Promise<Inspected> {
  try {
    const { inspect } = await import('../../lib/index.js');
    const report = await inspect(path, { signal });
    const exitCode = reportExitCode(report);
    if (exitCode !== 0) talk.damage(trustMessage(report));
    return { path, report, failure: undefined, exitCode };
  } catch (error) {
    if (error instanceof StoppedError) throw error;
    const failure = describeFailure(error);
    talk.failure(failure);
    return { path, report: undefined, failure, exitCode: failure.exitCode };
  }
}

function reportsJson(inspected: readonly Inspected[]): object {
  const objects = inspected.map(({ report, failure }) =>
    report === undefined ? failureJson(failure!) : reportJson(report),
  );
  if (objects.length === 1) return objects[0]!;
  return { schema: 'vmsnap.inspect-list', schemaVersion: 1, images: objects };
}
