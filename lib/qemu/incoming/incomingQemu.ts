/** The steps by which a QEMU that waits (-incoming defer) becomes the machine: capabilities, the stream, and `cont`. */
import { closeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { native } from '../../../native/binding.js';
import { errnoError, VmsnapError } from '../../../native/errors.js';
import type { CommonOptions, LoadResult } from '../../types.js';
import type { QmpPeer } from '../qmpPeer.js';
import { QmpSocket } from '../qmpSocket.js';
import { statusOf } from './checkMachine.js';
import type { MachineImage } from './machineImage.js';
import { sendStream } from './migrationStream.js';
import { capabilityCommands } from './qemuArguments.js';

const RETRY_MS = 20;
/** QEMU answers when it has allocated its memory, which takes long where it does so in advance. */
const START_SECONDS = 600;

/** Connects to the socket of a QEMU that is being started. */
export async function openQmp(path: string, signal: AbortSignal): Promise<QmpSocket> {
  const deadline = performance.now() + START_SECONDS * 1000;
  for (;;) {
    signal.throwIfAborted();
    try {
      return await QmpSocket.open(path, signal);
    } catch (error) {
      signal.throwIfAborted();
      const isEarly = error instanceof VmsnapError && ['NOT_FOUND', 'GUEST'].includes(error.code);
      if (!isEarly || performance.now() > deadline) throw error;
    }
    await delay(RETRY_MS);
  }
}

/** The same QEMU, but an answer that is waited for ends with the signal. */
export function stoppable(qmp: QmpPeer, signal: AbortSignal): QmpPeer {
  const execute = (command: string, args?: Record<string, unknown>): Promise<unknown> => {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      qmp
        .execute(command, args)
        .then(resolve, reject)
        .finally(() => signal.removeEventListener('abort', onAbort));
    });
  };
  return { path: qmp.path, qemuVersion: qmp.qemuVersion, execute, close: () => qmp.close() };
}

/** @returns what was sent, and how long it took until QEMU had taken all of it. */
export async function feedStream(
  image: MachineImage,
  qmp: QmpPeer,
  socket: string,
  options: CommonOptions & { readonly signal: AbortSignal },
): Promise<{ sent: LoadResult; seconds: number }> {
  for (const command of capabilityCommands(image)) await qmp.execute(command.execute, { ...command.arguments });
  await qmp.execute('migrate-incoming', { uri: `unix:${socket}` });
  const started = performance.now();
  const fd = native.connectUnix(socket);
  if (fd < 0) throw errnoError(fd, 'connect to', socket);
  try {
    const sent = await sendStream(image, { fd, path: "QEMU's migration socket" }, options);
    await awaitArrival(qmp, options.signal);
    return { sent, seconds: (performance.now() - started) / 1000 };
  } finally {
    closeSync(fd);
  }
}

async function awaitArrival(qmp: QmpPeer, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    const answer = (await qmp.execute('query-migrate')) as Record<string, unknown> | undefined;
    const status = answer?.status;
    if (status === 'completed') return;
    if (status === 'failed' || status === 'cancelled') {
      const why = answer?.['error-desc'];
      const message = `QEMU did not take the machine: its migration ${status}${typeof why === 'string' ? `: ${why}` : ''}`;
      throw new VmsnapError('GUEST', message, { path: qmp.path });
    }
    await delay(RETRY_MS);
  }
}

/** @throws GUEST if the machine does not run then. */
export async function runMachine(qmp: QmpPeer): Promise<void> {
  await qmp.execute('cont');
  const status = await statusOf(qmp);
  if (status === 'running') return;
  throw new VmsnapError('GUEST', `the machine does not run: it is ${status}`, { path: qmp.path });
}
