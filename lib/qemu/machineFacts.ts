/** What a running machine tells of itself, asked before it is stopped. */
import { countOf, fieldOf, listOf, textOf } from './answers.js';
import type { MachineBackend } from './machineDescription.js';
import { type QmpPeer, QmpRefusal } from './qmpPeer.js';

export interface MemoryBackend extends MachineBackend {
  readonly sizeBytes: number;
  /** Where in its file it begins. */
  readonly fileOffset: number;
}

export interface MachineFacts {
  readonly qemuVersion: string;
  readonly machineType: string;
  readonly name: string | undefined;
  readonly uuid: string | undefined;
  /** RunState of QEMU. */
  readonly status: string;
  readonly isRunning: boolean;
  readonly memoryBytes: number;
  readonly backends: readonly MemoryBackend[];
  /** Answers, by command. */
  readonly queries: Readonly<Record<string, unknown>>;
}

/** Kept as they are for whoever needs more; a QEMU without one of them is as good. */
const KEPT_QUERIES = [
  'query-version',
  'query-kvm',
  'query-memory-size-summary',
  'query-memory-devices',
  'query-memdev',
  'query-cpus-fast',
  'query-block',
];
const NO_UUID = '00000000-0000-0000-0000-000000000000';

export async function askMachine(peer: QmpPeer): Promise<MachineFacts> {
  const status = await peer.execute('query-status');
  const queries: Record<string, unknown> = {};
  for (const command of KEPT_QUERIES) queries[command] = await answerOrNull(peer, command);
  const uuid = textOf(await answerOrNull(peer, 'query-uuid'), 'UUID');
  const type = await answerOrNull(peer, 'qom-get', { path: '/machine', property: 'type' });
  const backends: MemoryBackend[] = [];
  for (const entry of listOf(queries['query-memdev'])) {
    const backend = await askBackend(peer, entry);
    if (backend !== undefined) backends.push(backend);
  }
  const summary = queries['query-memory-size-summary'];
  return {
    qemuVersion: peer.qemuVersion,
    machineType: typeof type === 'string' ? type.replace(/-machine$/, '') : '',
    name: textOf(await answerOrNull(peer, 'query-name'), 'name'),
    uuid: uuid === NO_UUID ? undefined : uuid,
    status: textOf(status, 'status') ?? '',
    isRunning: fieldOf(status, 'running') === true,
    memoryBytes: (countOf(summary, 'base-memory') ?? 0) + (countOf(summary, 'plugged-memory') ?? 0),
    backends,
    queries,
  };
}

async function askBackend(peer: QmpPeer, entry: unknown): Promise<MemoryBackend | undefined> {
  const id = textOf(entry, 'id');
  const sizeBytes = countOf(entry, 'size');
  if (id === undefined || sizeBytes === undefined) return undefined;
  const property = (name: string) => answerOrNull(peer, 'qom-get', { path: `/objects/${id}`, property: name });
  // Until 6.1 query-memdev did not tell.
  const share = fieldOf(entry, 'share') ?? (await property('share'));
  const type = await property('type');
  const path = type === 'memory-backend-file' ? await property('mem-path') : null;
  const offset = type === 'memory-backend-file' ? await property('offset') : 0;
  return {
    id,
    type: typeof type === 'string' ? type : '',
    share: share === true,
    path: typeof path === 'string' && path !== '' ? path : null,
    sizeBytes,
    // QEMU before 8.1 begins at 0 always.
    fileOffset: Number.isSafeInteger(offset) ? (offset as number) : 0,
  };
}

async function answerOrNull(peer: QmpPeer, command: string, args?: Record<string, unknown>): Promise<unknown> {
  try {
    return await peer.execute(command, args);
  } catch (error) {
    if (error instanceof QmpRefusal) return null;
    throw error;
  }
}
