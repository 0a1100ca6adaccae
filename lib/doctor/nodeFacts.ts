/** The file of a queue below /dev/dsa: what it is, whose it is, and whether this process may open it. */
import { accessSync, constants, statSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeFacts } from './report.js';
import { readText } from './systemFiles.js';

const PERMISSION_BITS = 0o7777;

export function nodeFacts(path: string, systemRoot: string): NodeFacts {
  try {
    const status = statSync(path);
    return {
      kind: status.isCharacterDevice() ? 'character-device' : 'other',
      mode: status.mode & PERMISSION_BITS,
      owner: nameOf(status.uid, join(systemRoot, '/etc/passwd')),
      group: nameOf(status.gid, join(systemRoot, '/etc/group')),
      mayOpen: mayOpen(path),
    };
  } catch {
    return { kind: 'missing', mode: undefined, owner: undefined, group: undefined, mayOpen: false };
  }
}

function mayOpen(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** The name that has this number in a table like /etc/passwd, or the number. */
function nameOf(id: number, table: string): string {
  const lines = (readText(table) ?? '').split('\n').map((line) => line.split(':'));
  return lines.find((fields) => fields[2] === String(id))?.[0] || String(id);
}
