/** `vmsnap list`: the images of a folder. */
import type { StoreListing } from '../../lib/index.js';
import type { CommandContext, CommandSpec } from '../command.js';
import { describeFailure, type Failure, failureJson } from '../failure.js';
import { StoppedError } from '../signals.js';
import { entryJson } from '../store/entryJson.js';
import { listTable } from '../store/listTable.js';
import { BASE_DIR_OPTION, exitCodeOfAll, JSON_OPTION } from './commonOptions.js';
import { requireFolders } from './imageList.js';

const EXIT_WARNINGS = 3;

export const listCommand: CommandSpec = {
  name: 'list',
  summary: 'list the images in folders',
  usage: ['list [options] FOLDER...'],
  options: [
    { name: 'bytes', kind: 'flag', text: 'exact numbers of bytes instead of KiB, MiB, GiB' },
    BASE_DIR_OPTION,
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap list /backup', 'by machine, the newest last'],
    ['vmsnap list --json /backup | jq .stores', 'for programs'],
  ],
  notes: [
    'Reads a few KiB of each image, and none of its memory; vmsnap verify reads it.',
    'What counts as an image is told by its content. KIND: full, or diff and how many',
    'images it needs. Exit code 3: an image is not good, and why stands on stderr.',
  ],
  lastIsOutput: false,
  run: runList,
};

type Listed = { readonly listing: StoreListing } | { readonly failure: Failure };

async function runList(context: CommandContext): Promise<number> {
  const { args, answer } = context;
  const listed: Listed[] = [];
  for (const folder of requireFolders(args)) listed.push(await listOne(context, folder));
  if (args.flag('json')) {
    await answer.json({ schema: 'vmsnap.list', schemaVersion: 1, stores: listed.map(storeJson) });
  } else {
    for (const one of listed) if ('listing' in one) await answer.lines(storeLines(one.listing, listed.length, args));
  }
  return exitCodeOfAll(listed.map(exitCodeOf));
}

async function listOne({ args, talk, signal }: CommandContext, folder: string): Promise<Listed> {
  try {
    const { listStore } = await import('../../lib/store/listStore.js');
    const listing = await listStore(folder, { signal, baseDirs: args.list('base-dir') });
    for (const { state, problem } of listing.entries) if (state !== 'good') talk.warning(problem!.message);
    return { listing };
  } catch (error) {
    if (error instanceof StoppedError) throw error;
    const failure = describeFailure(error);
    talk.failure(failure);
    return { failure };
  }
}

/** Several folders are told apart by a line with their name. */
function storeLines(listing: StoreListing, stores: number, args: CommandContext['args']): string[] {
  const table = listTable(listing, args.flag('bytes'));
  return stores === 1 || listing.entries.length === 0 ? table : [`${listing.folder}:`, ...table];
}

function storeJson(listed: Listed): object {
  if ('failure' in listed) return failureJson(listed.failure);
  const { folder, entries } = listed.listing;
  return {
    folder,
    images: entries.map(entryJson),
    totals: {
      images: entries.length,
      good: entries.filter(({ state }) => state === 'good').length,
      fileBytes: entries.reduce((sum, { fileBytes }) => sum + fileBytes, 0),
    },
  };
}

function exitCodeOf(listed: Listed): number {
  if ('failure' in listed) return listed.failure.exitCode;
  return listed.listing.entries.every(({ state }) => state === 'good') ? 0 : EXIT_WARNINGS;
}
