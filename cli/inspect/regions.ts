/** `inspect --regions`: all of them, where the screen shows the first few. */
import type { InspectRegion, InspectReport } from '../../lib/index.js';
import type { CommandContext } from '../command.js';
import { imageOptions } from '../commands/keyOptions.js';
import { printable } from '../output/printable.js';
import { formatTable } from '../output/table.js';
import { formatAddress } from '../output/units.js';
import { Numbers, UNKNOWN } from './numbers.js';
import { reportJson } from './reportJson.js';
import { reportExitCode, trustMessage } from './trust.js';

const HEAD = ['REGION', 'FIRST', 'LAST', 'SIZE', 'DATA PAGES', 'UNIFORM', 'ABSENT', 'STORED', 'SUM'];
const ALIGNS = ['left', 'right', 'right', 'right', 'right', 'right', 'right', 'right', 'left'] as const;

export async function printRegions(context: CommandContext, image: string): Promise<number> {
  const { args, answer, talk, signal } = context;
  const { inspect } = await import('../../lib/inspect.js');
  const report: InspectReport = await inspect(image, { signal, ...imageOptions(context) });
  const exitCode = reportExitCode(report);
  if (exitCode !== 0) talk.damage(trustMessage(report));
  if (args.flag('json')) {
    await answer.json(reportJson(report));
    return exitCode;
  }
  const numbers = new Numbers(args.flag('bytes'));
  const rows = report.memory.regions.map((region) => regionRow(region, numbers));
  await answer.lines(formatTable([HEAD, ...rows], ALIGNS));
  return exitCode;
}

function regionRow(region: InspectRegion, numbers: Numbers): string[] {
  const { name, gpa, sizeBytes } = region;
  return [
    printable(name),
    gpa === undefined ? UNKNOWN : formatAddress(gpa),
    gpa === undefined || sizeBytes === undefined ? UNKNOWN : formatAddress(gpa + sizeBytes - 1),
    numbers.bytes(sizeBytes),
    numbers.count(region.dataPages),
    numbers.count(region.uniformPages),
    numbers.count(region.absentPages),
    numbers.bytes(region.storedBytes),
    region.sum ?? UNKNOWN,
  ];
}
