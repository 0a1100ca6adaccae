/** Files that a contract case needs, by kind. */
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeMemory } from './memory.js';
import { writeNights } from './nights.js';
import { runCli } from './runCli.js';

/** One thing to do in the case's folder before the command runs, in order. */
export type Preparation =
  | { readonly memory: string; readonly pages: number }
  | { readonly file: string; readonly content: string }
  /** A file of this length, all hole. */
  | { readonly sparse: string; readonly bytes: number }
  | { readonly folder: string }
  | { readonly run: readonly string[] }
  /** A folder with three nightly images (nights.ts). */
  | { readonly store: string }
  /** Inverts one byte. Negative: counted from the end. */
  | { readonly damage: string; readonly at: number }
  | { readonly truncate: string; readonly bytes: number };

export async function prepare(folder: string, preparations: readonly Preparation[]): Promise<void> {
  for (const preparation of preparations) await prepareOne(folder, preparation);
}

async function prepareOne(folder: string, preparation: Preparation): Promise<void> {
  const path = (name: string): string => join(folder, name);
  if ('memory' in preparation) writeFileSync(path(preparation.memory), makeMemory(preparation.pages));
  else if ('file' in preparation) writeFileSync(path(preparation.file), preparation.content);
  else if ('sparse' in preparation) {
    writeFileSync(path(preparation.sparse), '');
    truncateSync(path(preparation.sparse), preparation.bytes);
  } else if ('folder' in preparation) mkdirSync(path(preparation.folder));
  else if ('store' in preparation) {
    mkdirSync(path(preparation.store));
    await writeNights(path(preparation.store));
  } else if ('damage' in preparation) invertByte(path(preparation.damage), preparation.at);
  else if ('truncate' in preparation) truncateSync(path(preparation.truncate), preparation.bytes);
  else {
    const result = await runCli(preparation.run, { cwd: folder });
    if (result.exitCode !== 0) throw new Error(`vmsnap ${preparation.run.join(' ')} failed: ${result.stderr}`);
  }
}

export function invertByte(path: string, at: number): void {
  const bytes = readFileSync(path);
  const offset = at < 0 ? bytes.length + at : at;
  bytes[offset] = bytes[offset]! ^ 0xff;
  writeFileSync(path, bytes);
}
