/** A live save of a machine behind a scripted QEMU, whose memory lies in a file that it writes. */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { load, save, verify } from '../../../lib/index.js';
import { sameBytes } from './expect.js';
import { mixedMemory, PAGE } from './memory.js';
import { LIMITS, type QemuStage } from './qemuStage.js';
import { RAM_PAGES, type Script, ScriptedQemu } from './scriptedQemu.js';
import { workspace } from './workspace.js';

const MEMORY_BYTES = RAM_PAGES * PAGE;

export interface LiveQemuStage extends QemuStage {
  /** What the machine's memory was when it was stopped last. */
  stopped: Buffer;
}

/** The machine writes `writtenPages` anew whenever it is told to stop, which is to say: since the first look. */
export async function liveQemuStage(
  t: ExecutionContext,
  script: Script = {},
  writtenPages = 20,
): Promise<LiveQemuStage> {
  t.timeout(300_000);
  const folder = workspace(t);
  const memoryFile = folder.path('memory');
  writeFileSync(memoryFile, mixedMemory(MEMORY_BYTES));
  // As QEMU has it open: this process, and another, since its own files are not what a save takes for those of QEMU.
  const fd = openSync(memoryFile, 'r+');
  const holder = spawn('sleep', ['1000'], { stdio: [fd, 'ignore', 'ignore'] });
  t.teardown(() => {
    holder.kill('SIGKILL');
    closeSync(fd);
  });
  let times = 0;
  const onCommand = (command: string, qemu: ScriptedQemu): void => {
    script.onCommand?.(command, qemu);
    if (command !== 'stop' || !qemu.isRunning) return;
    times++;
    for (let i = 0; i < writtenPages; i++) {
      const page = (i * 37 + times) % RAM_PAGES;
      writeSync(fd, Buffer.alloc(PAGE, `written ${times} ${page} `), 0, PAGE, page * PAGE);
    }
    made.stopped = readFileSync(memoryFile);
  };
  const qemu = await ScriptedQemu.start(folder.folder, { ...script, memoryFile, onCommand });
  t.teardown(() => qemu.close());
  const image = folder.path('image.vmsnap');
  const made: LiveQemuStage = {
    folder,
    qemu,
    image,
    stopped: Buffer.alloc(0),
    save: (machine = {}, options = {}) =>
      save(`qemu:${qemu.socket}`, image, { threads: 1, ...options, machine: { ...LIMITS, live: true, ...machine } }),
  };
  return made;
}

export async function hasStoppedMemory(t: ExecutionContext, { folder, image, stopped }: LiveQemuStage): Promise<void> {
  t.true((await verify(image, { threads: 1 })).intact);
  await load(image, folder.path('back'), { region: 'ram', threads: 1, force: true });
  sameBytes(t, readFileSync(folder.path('back')), stopped);
}
