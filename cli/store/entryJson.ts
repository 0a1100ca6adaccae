/** How the images of a store stand in JSON: the same in `list` and `prune`. */
import type { StoreEntry } from '../../lib/index.js';

export function entryJson(entry: StoreEntry): object {
  const { path, name, state, problem, fileBytes, isProtected, identity, createdAt, machine, group, base } = entry;
  return {
    path,
    name,
    state,
    problem: problem === undefined ? null : { code: problem.code, message: problem.message },
    fileBytes,
    protected: isProtected,
    identity: identity ?? null,
    createdAt: createdAt ?? null,
    machine: { name: machine.name ?? null, uuid: machine.uuid ?? null },
    sourceName: entry.sourceName ?? null,
    group: group ?? null,
    labels: Object.fromEntries(entry.labels),
    memoryBytes: entry.memoryBytes ?? null,
    base: base === undefined ? null : { identity: base.identity, fileName: base.fileName },
    bases: entry.bases.map((link) => ({ path: link.path, identity: link.identity })),
  };
}
