/** The reports of one image or memory file, or several: a screen, a table, or JSON. */
import type { InspectReport, MemoryFileReport } from '../../lib/index.js';
import type { CommandContext } from '../command.js';
import { snapshotOptions } from '../commands/commonOptions.js';
import { imageOptions } from '../commands/keyOptions.js';
import { describeFailure, type Failure, failureJson } from '../failure.js';
import { StoppedError } from '../signals.js';
import { memoryFileJson, memoryFileScreen } from './memoryFile.js';
import { reportJson } from './reportJson.js';
import { reportScreen } from './screen.js';
import { summaryTable } from './summaryTable.js';
import { reportExitCode, trustMessage } from './trust.js';

export interface Inspected {
  readonly path: string;
  readonly report: InspectReport | undefined;
  /** Of a memory file of another tool. */
  readonly memoryFile: MemoryFileReport | undefined;
  readonly failure: Failure | undefined;
  readonly exitCode: number;
}

export async function printReports(context: CommandContext, images: readonly string[]): Promise<number> {
  const { args, answer } = context;
  const inspected: Inspected[] = [];
  for (const image of images) inspected.push(await inspectOne(context, image));
  if (args.flag('json')) await answer.json(reportsJson(inspected));
  else if (inspected.length > 1) await answer.lines(summaryTable(inspected, args.flag('bytes')));
  else await answer.lines(screenOf(inspected[0]!, args.flag('bytes')));
  return inspected.find(({ exitCode }) => exitCode !== 0)?.exitCode ?? 0;
}

function screenOf({ report, memoryFile }: Inspected, exactBytes: boolean): string[] {
  if (report !== undefined) return reportScreen(report, exactBytes);
  return memoryFile === undefined ? [] : memoryFileScreen(memoryFile, exactBytes);
}

async function inspectOne(context: CommandContext, path: string): Promise<Inspected> {
  const { signal, talk } = context;
  try {
    const { inspect } = await import('../../lib/inspect.js');
    const { inspectMemoryFile } = await import('../../lib/inspectMemoryFile.js');
    const { format, vmstate, diffBase } = snapshotOptions(context);
    const memoryFile = await inspectMemoryFile(path, { format, vmstate, diffBase, signal });
    if (memoryFile !== undefined) return { path, report: undefined, memoryFile, failure: undefined, exitCode: 0 };
    const report = await inspect(path, { signal, ...imageOptions(context) });
    const exitCode = reportExitCode(report);
    if (exitCode !== 0) talk.damage(trustMessage(report));
    return { path, report, memoryFile: undefined, failure: undefined, exitCode };
  } catch (error) {
    if (error instanceof StoppedError) throw error;
    const failure = describeFailure(error);
    talk.failure(failure);
    return { path, report: undefined, memoryFile: undefined, failure, exitCode: failure.exitCode };
  }
}

function reportsJson(inspected: readonly Inspected[]): object {
  const objects = inspected.map(({ report, memoryFile, failure }) => {
    if (report !== undefined) return reportJson(report);
    return memoryFile === undefined ? failureJson(failure!) : memoryFileJson(memoryFile);
  });
  if (objects.length === 1) return objects[0]!;
  return { schema: 'vmsnap.inspect-list', schemaVersion: 1, images: objects };
}
