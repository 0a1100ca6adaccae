/**
 * The line of `check`, as monitoring plugins print it: status, what is wrong, and performance data behind a bar
 * (Monitoring Plugins Development Guidelines, "Plugin Output for Nagios" and "Performance data").
 */
import type { CheckGroup, CheckOptions, CheckResult } from '../../lib/index.js';
import { printable } from '../output/printable.js';
import { formatAge } from '../output/units.js';

export const NAME = 'VMSNAP';

/** What is wrong comes first; of machines that are as they should be, only the age is told. */
export function checkLine(result: CheckResult, options: CheckOptions): string {
  const groups = [...result.groups].sort((a, b) => Number(a.status === 'OK') - Number(b.status === 'OK'));
  const texts = [...result.messages, ...groups.map(groupText)];
  const data = groups.flatMap((group) => performanceData(group, options)).join(' ');
  return `${statusLine(result.status, texts.join('; '))}${data === '' ? '' : ` | ${data}`}`;
}

/** One line, in which a bar would begin the performance data. */
export function statusLine(status: string, text: string): string {
  return `${NAME} ${status}: ${printable(text).replaceAll('|', '/')}`;
}

function groupText({ machine, ageSeconds, messages }: CheckGroup): string {
  const age = ageSeconds === undefined ? [] : [`newest ${formatAge(ageSeconds)} old`];
  return `${machine}: ${[...messages, ...age].join(', ')}`;
}

/** 'label'=value[unit];warn;crit;min. "N:" alerts below N. */
function performanceData(group: CheckGroup, { maxAgeSeconds, warnAgeSeconds, minCount = 1 }: CheckOptions): string[] {
  const label = (what: string): string => `'${labelText(group.machine)} ${what}'`;
  const age = group.ageSeconds === undefined ? 'U' : `${Math.floor(group.ageSeconds)}s`;
  return [
    `${label('age')}=${age};${warnAgeSeconds ?? ''};${maxAgeSeconds};0`,
    `${label('count')}=${group.goodCount};;${minCount}:;0`,
    `${label('size')}=${group.totalBytes}B;;;0`,
  ];
}

/** A label may have neither the equals sign nor a quote that is not doubled. */
function labelText(text: string): string {
  return printable(text).replaceAll('|', '/').replaceAll('=', '_').replaceAll("'", "''");
}
