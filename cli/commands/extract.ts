/** `vmsnap extract`: lists the attachments of an image, or takes one out. */
import type { InspectReport } from '../../lib/index.js';
import type { CommandContext, CommandSpec } from '../command.js';
import { printable } from '../output/printable.js';
import { formatTable } from '../output/table.js';
import { formatBytes } from '../output/units.js';
import { UsageError } from '../usageError.js';
import { JSON_OPTION, QUIET_OPTION } from './commonOptions.js';
import { KEY_OPTIONS, keySources } from './keyOptions.js';

export const extractCommand: CommandSpec = {
  name: 'extract',
  summary: 'list the attachments of an image, or take one out',
  usage: ['extract IMAGE', 'extract --attachment NAME [options] IMAGE [FILE]'],
  options: [
    { name: 'attachment', kind: 'value', text: 'NAME; which one to take out; without it they are listed' },
    { name: 'force', kind: 'flag', text: 'replace FILE if it is there' },
    ...KEY_OPTIONS,
    QUIET_OPTION,
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap extract guest.vmsnap', 'list'],
    ['vmsnap extract --attachment cpu.state guest.vmsnap', 'into ./cpu.state'],
    ['vmsnap extract --attachment vm.xml guest.vmsnap -', 'to a pipe'],
  ],
  notes: ['FILE is ./NAME unless given; - is standard output.'],
  lastIsOutput: true,
  run: runExtract,
};

async function runExtract(context: CommandContext): Promise<number> {
  const { args } = context;
  const name = args.value('attachment');
  if (name === undefined) return listAttachments(context);
  const names = args.positionals.length > 1 ? ['IMAGE', 'FILE'] : ['IMAGE'];
  const [image, file] = args.requirePositionals(names);
  requireFile(image!);
  // The format forbids `/` in names, so the default stays in this folder.
  if (file === undefined && name.includes('/')) throw new UsageError('no attachment has a / in its name');
  return extractOne(context, image!, name, file ?? `./${name}`);
}

function requireFile(image: string): void {
  if (image === '-') throw new UsageError('extract needs an image that is a file', 'save the stream to a file first');
}

async function extractOne(context: CommandContext, image: string, name: string, file: string) {
  const { args, answer, signal } = context;
  const { extract } = await import('../../lib/extract.js');
  const { sizeBytes } = await extract(image, name, file, {
    force: args.flag('force'),
    signal,
    keys: keySources(context),
  });
  if (args.flag('json')) {
    await answer.json({ schema: 'vmsnap.extract', schemaVersion: 1, image, attachment: name, file, sizeBytes });
  } else if (!args.flag('quiet') && file !== '-') {
    await answer.line(`${file}: ${formatBytes(sizeBytes)}`);
  }
  return 0;
}

async function listAttachments(context: CommandContext): Promise<number> {
  const { args, answer, signal } = context;
  if (args.positionals.length > 1) throw new UsageError('which attachment?', 'name it: --attachment NAME');
  if (args.flag('force')) throw new UsageError('--force goes with --attachment');
  const [image] = args.requirePositionals(['IMAGE']);
  requireFile(image!);
  const { inspect } = await import('../../lib/inspect.js');
  const report = await inspect(image!, { signal, keys: keySources(context) });
  const attachments = await requireAttachments(report);
  if (args.flag('json')) {
    await answer.json({ schema: 'vmsnap.attachments', schemaVersion: 1, image, attachments });
    return 0;
  }
  const rows = attachments.map((attachment) => [printable(attachment.name), formatBytes(attachment.sizeBytes)]);
  await answer.lines(formatTable(rows, ['left', 'right']));
  return 0;
}

async function requireAttachments(report: InspectReport): Promise<{ name: string; sizeBytes: number }[]> {
  if (report.attachments !== undefined) return report.attachments.map(({ name, sizeBytes }) => ({ name, sizeBytes }));
  const { VmsnapError } = await import('../../lib/errors.js');
  if (report.encryption?.opened === false)
    throw new VmsnapError('KEY', `${report.path} is encrypted, and no key is given`, {
      path: report.path,
      hint: 'name one with --identity-file, --passphrase-file, --passphrase-command or --credential',
    });
  throw new VmsnapError('CORRUPT', `${report.path} has no readable table of attachments`, {
    path: report.path,
    hint: `vmsnap inspect ${report.path} tells what can be trusted`,
  });
}
