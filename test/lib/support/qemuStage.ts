/**
 * A save of a machine behind a scripted QEMU, and what holds whatever becomes of it. With VMSNAP_CAMPAIGN=1 every command fails in
 * every way, else in half of them.
 */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { openImage, VmsnapError } from '../../../lib/index.js';
import { MACHINE_ATTACHMENT, type MachineDescription } from '../../../lib/qemu/machineDescription.js';
import type { MachineOptions, SaveOptions, SaveResult } from '../../../lib/types.js';
import type { Fault, Script, ScriptedQemu } from './scriptedQemu.js';
import type { Workspace } from './workspace.js';

const GUARD_MS = 150_000;
const CAMPAIGN = process.env.VMSNAP_CAMPAIGN === '1';
const FAULTS: readonly Fault[] = ['refuse', 'close', 'mute', 'hang', 'garbage'];
const SIDE_BY_SIDE = 4;

/** Short enough for a test that waits for their end. */
export const LIMITS = { answerSeconds: 2, reconnectSeconds: 3 } as const;

export interface QemuStage {
  readonly folder: Workspace;
  readonly qemu: ScriptedQemu;
  readonly image: string;
  save(machine?: MachineOptions, options?: SaveOptions): Promise<SaveResult>;
}

/** The guard may need a moment, where vmsnap could not do it. */
export async function runsInTheEnd(t: ExecutionContext, qemu: ScriptedQemu): Promise<void> {
  const deadline = Date.now() + GUARD_MS;
  while (!qemu.isRunning && Date.now() < deadline) await sleep(20);
  t.true(qemu.isRunning, `${qemu.status}: ${qemu.log.join(' ')}`);
  const said = qemu.log.lastIndexOf('cont');
  if (qemu.wasStopped) t.true(said > qemu.log.indexOf('stop'), 'cont was said after stop');
}

/** Either the image is whole, which `isWhole` asserts, or it is not there. */
export async function allOrNothing<S extends QemuStage>(
  t: ExecutionContext,
  stage: S,
  work: Promise<SaveResult>,
  isWhole: (t: ExecutionContext, stage: S) => Promise<void>,
): Promise<void> {
  let isSaved = false;
  try {
    await work;
    isSaved = true;
  } catch (error) {
    t.true(error instanceof VmsnapError, String(error));
    t.false(existsSync(stage.image), 'a save that fails leaves nothing');
  }
  if (isSaved) await isWhole(t, stage);
  t.deepEqual(stage.folder.leftovers(), []);
  await runsInTheEnd(t, stage.qemu);
}

/** A test for each way to fail, of saves in which QEMU fails so from the n-th of a command on. */
export function testFaults<S extends QemuStage>(
  commands: readonly (readonly [command: string, from: number])[],
  makeStage: (t: ExecutionContext, script: Script) => Promise<S>,
  isWhole: (t: ExecutionContext, stage: S) => Promise<void>,
): void {
  for (const [i, fault] of FAULTS.entries()) {
    test(`QEMU fails by ${fault} at ${CAMPAIGN ? 'every command' : 'commands'}: the machine runs in the end`, async (t) => {
      const steps = commands.filter((_, step) => CAMPAIGN || step % 2 === i % 2).values();
      const lane = async () => {
        for (const [command, from] of steps) {
          const made = await makeStage(t, { command, fault, from });
          await allOrNothing(t, made, made.save({ answerSeconds: 1 }), isWhole);
          made.qemu.close();
        }
      };
      await Promise.all(Array.from({ length: SIDE_BY_SIDE }, lane));
    });
  }
}

export async function descriptionIn(image: string): Promise<MachineDescription> {
  const opened = await openImage(image);
  try {
    const parts: Buffer[] = [];
    for await (const part of opened.readAttachment(MACHINE_ATTACHMENT)) parts.push(part);
    return JSON.parse(Buffer.concat(parts).toString());
  } finally {
    await opened.close();
  }
}
