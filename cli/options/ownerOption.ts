/** `--owner USER[:GROUP]` and `--mode`: who may use a new file. Names come from /etc/passwd and /etc/group. */
import { readFileSync } from 'node:fs';
import { UsageError } from '../usageError.js';
import { parseInteger } from './integers.js';

const ID_MAX = 2 ** 32 - 2;

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** The two tables; tests give their own. */
export interface NameTables {
  readonly passwd: string;
  readonly group: string;
}

/** Without GROUP: the user's own group, or the group of this process for a number that no user has. */
export function parseOwner(text: string, tables: NameTables = systemTables()): Owner {
  const [user, group, ...more] = text.split(':');
  if (user === undefined || user === '' || group === '' || more.length > 0) {
    throw new UsageError(`--owner cannot be ${JSON.stringify(text)}`, 'USER or USER:GROUP, names or numbers');
  }
  const entry = findUser(user, tables.passwd);
  if (entry === undefined && !isNumber(user)) throw new UsageError(`there is no user ${JSON.stringify(user)}`);
  const uid = entry?.uid ?? parseInteger(user, 'the user of --owner', 0, ID_MAX);
  if (group !== undefined) return { uid, gid: findGroup(group, tables.group) };
  return { uid, gid: entry?.gid ?? process.getgid!() };
}

function findUser(user: string, passwd: string): Owner | undefined {
  for (const fields of rows(passwd)) {
    if (fields[0] === user || (isNumber(user) && fields[2] === user)) {
      return { uid: Number(fields[2]), gid: Number(fields[3]) };
    }
  }
  return undefined;
}

function findGroup(group: string, table: string): number {
  if (isNumber(group)) return parseInteger(group, 'the group of --owner', 0, ID_MAX);
  const row = rows(table).find((fields) => fields[0] === group);
  if (row === undefined) throw new UsageError(`there is no group ${JSON.stringify(group)}`);
  return Number(row[2]);
}

function rows(table: string): string[][] {
  return table.split('\n').map((line) => line.split(':'));
}

function isNumber(text: string): boolean {
  return /^\d+$/.test(text);
}

function systemTables(): NameTables {
  return { passwd: readTable('/etc/passwd'), group: readTable('/etc/group') };
}

/** A machine without the table has only numbers. */
function readTable(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Permission bits in octal, as chmod takes them. */
export function parseMode(text: string): number {
  if (/^[0-7]{3,4}$/.test(text)) return Number.parseInt(text, 8);
  throw new UsageError(`--mode cannot be ${JSON.stringify(text)}`, 'three or four octal digits, as in 600');
}
