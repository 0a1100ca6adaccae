/** `vmsnap doctor`: can zero-page detection on DSA be used here, and what is to be mended? */
import type { DoctorReport, Outcome } from '../../lib/index.js';
import type { CommandContext, CommandSpec } from '../command.js';
import { reportJson } from '../doctor/reportJson.js';
import { doctorScreen } from '../doctor/screen.js';
import { UsageError } from '../usageError.js';
import { JSON_OPTION } from './commonOptions.js';

const EXIT_CODE_BY_OUTCOME: Readonly<Record<Outcome, number>> = { ready: 0, none: 0, partly: 3, unusable: 18 };

export const doctorCommand: CommandSpec = {
  name: 'doctor',
  summary: 'tell whether DSA works here, and what to mend',
  usage: ['doctor [--dsa NODE]... [--json]', 'doctor --emulated [--json]', 'doctor --accel-config'],
  options: [
    { name: 'dsa', kind: 'list', text: 'NODE, as /dev/dsa/wq0.0; must be usable (repeatable)' },
    { name: 'emulated', kind: 'flag', text: 'an emulated device: shows the path, and no hardware' },
    { name: 'accel-config', kind: 'flag', text: 'only a configuration for accel-config load-config' },
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap doctor', 'look at everything, test each queue'],
    ['vmsnap doctor --dsa /dev/dsa/wq0.0', 'for scripts: exit code 0 if it works'],
    ['vmsnap doctor --json | jq .verdict', 'for programs'],
    ['vmsnap doctor --accel-config > dsa.json', 'for accel-config load-config'],
  ],
  notes: [
    'Exit code 0: DSA works, or there is none here (nothing is wrong then). 3: one',
    'queue works and another does not. 18: there is a device that cannot be used, or',
    'a NODE that cannot. Queues are opened and closed again; nothing is changed.',
    'docs/dsa.md has the whole set-up; accel-config load-config -c dsa.json -e loads',
    'what --accel-config prints.',
  ],
  lastIsOutput: false,
  run: runDoctor,
};

async function runDoctor(context: CommandContext): Promise<number> {
  const { args, answer } = context;
  requireFitting(context);
  const { doctor } = await import('../../lib/doctor/doctor.js');
  const report = doctor({ nodes: args.list('dsa'), emulated: args.flag('emulated') });
  if (args.flag('accel-config')) return printAccelConfig(context, report);
  if (args.flag('json')) await answer.json(reportJson(report));
  else await answer.lines(doctorScreen(report, wantsColor(context)));
  return EXIT_CODE_BY_OUTCOME[report.verdict.outcome];
}

function requireFitting({ args }: CommandContext): void {
  args.requirePositionals([]);
  const only = ['emulated', 'accel-config'].filter((name) => args.flag(name));
  const others = ['dsa', 'json'].filter((name) => args.flag(name));
  if (only.length > 1) throw new UsageError(`--${only.join(' and --')} exclude each other`, 'choose one');
  if (only[0] === 'emulated' && args.flag('dsa')) {
    throw new UsageError('--dsa names a real queue, and --emulated looks at none', 'choose one');
  }
  if (only[0] === 'accel-config' && others.length > 0) {
    throw new UsageError(`--accel-config and --${others[0]} exclude each other`, 'choose one');
  }
}

async function printAccelConfig({ answer }: CommandContext, { accelConfig }: DoctorReport): Promise<number> {
  const { VmsnapError } = await import('../../lib/errors.js');
  if (accelConfig === undefined) {
    throw new VmsnapError('NOT_FOUND', 'there is no DSA device to configure', { hint: 'vmsnap doctor tells why' });
  }
  if (accelConfig.length === 0) {
    throw new VmsnapError('EXISTS', 'every DSA device has a queue for programs already', {
      hint: 'vmsnap doctor tells whether it works; accel-config save-config shows how it is set up',
    });
  }
  await answer.line(JSON.stringify(accelConfig, undefined, 2));
  return 0;
}

function wantsColor({ answer }: CommandContext): boolean {
  const { NO_COLOR, TERM } = process.env;
  return answer.isTerminal && !NO_COLOR && TERM !== 'dumb';
}
