import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Accelerator, acceleratorsToTry } from './accelerator.js';
import { findProgram, type GuestTools, guestAvailability } from './availability.js';
import { type GuestContent, guestEntries, moduleEntries } from './content.js';
import { ALIVE_MARKER, COUNT_MARKER, READY_MARKER } from './init.js';
import { writeInitramfs } from './initramfs.js';
import { QmpClient } from './qmp.js';

export { type GuestAvailability, guestAvailability, guestAvailabilityOrDemand } from './availability.js';

export interface GuestOptions {
  memoryMiB: number;
  /** Where the private folder of the guest is made; its memory file lies in it. */
  folder?: string;
  /** What the guest's memory is filled with. */
  content?: GuestContent;
  /** Memory of which the guest writes every page about ten times a second, with `full` content; default none. */
  dirtyMiB?: number;
  /** Where its memory lies; default a file that QEMU maps shared. `private`: plain -m. */
  memory?: 'file' | 'memfd' | 'private' | undefined;
  /** More devices, as QEMU's -device takes them. */
  devices?: readonly string[];
  /** More words for QEMU's command line. */
  arguments?: readonly string[];
  /** Modules that the guest loads, as paths below the kernel's folder of modules: kernel/drivers/firmware/qemu_fw_cfg.ko. */
  modules?: readonly string[];
  /** A file with an ext4 file system, on which the guest counts as well. */
  countingDisk?: string | undefined;
  /** Debian's qemu-ga, which the guest runs; see agentAvailability. */
  agent?: string | undefined;
  /** How long the guest may take until its memory is filled. */
  bootLimitSeconds?: number;
  /** Another qemu-system-x86_64 than that in PATH. */
  qemu?: string | undefined;
  /** Where a migration stream comes from that the guest begins with, as QEMU writes it: "exec:cat FILE". It is not booted. */
  incoming?: string | undefined;
}

const VIRTIO_PCI = 'kernel/drivers/virtio/virtio_pci.ko';
const BOOT_LIMIT_SECONDS = 180;
// A guest with KVM is up in a second or two; one that hangs is booted again with TCG.
const KVM_ALIVE_LIMIT_SECONDS = 20;
const QMP_LIMIT_SECONDS = 30;
const QUIT_LIMIT_SECONDS = 10;
const KEPT_CONSOLE_CHARACTERS = 64 * 1024;
const SHOWN_CONSOLE_CHARACTERS = 2000;

// Guests that a test left behind when its process ends.
const running = new Set<Guest>();
process.on('exit', () => {
  for (const guest of running) guest.destroy();
});

/** Boots a guest and waits until its memory is filled. Whoever boots a guest closes it. */
export async function bootGuest(options: GuestOptions): Promise<Guest> {
  const availability = guestAvailability();
  if (!availability.available) throw new Error(`no guest can be booted here: ${availability.reason}`);
  const failures: Error[] = [];
  for (const accelerator of acceleratorsToTry()) {
    const folder = mkdtempSync(join(options.folder ?? tmpdir(), 'vmsnap-guest-'));
    const guest = new Guest(folder, availability.tools, accelerator, options);
    try {
      await guest.waitUntilReady(options.bootLimitSeconds ?? BOOT_LIMIT_SECONDS);
      return guest;
    } catch (error) {
      await guest.close();
      failures.push(error as Error);
    }
  }
  throw failures.at(-1);
}

/** A running QEMU with a Linux in it, whose memory is a file that others can read. */
export class Guest {
  /** The file that is the guest's memory: QEMU maps it shared. */
  readonly memoryFile: string;
  readonly memoryBytes: number;
  readonly accelerator: Accelerator;
  /** From the start of QEMU until the memory was filled. */
  bootSeconds = 0;
  readonly #folder: string;
  readonly #child: ChildProcess;
  readonly #isIncoming: boolean;
  readonly #spawnedAt = performance.now();
  #qmp: QmpClient | undefined;
  #console = '';
  #errors = '';
  #alive = false;
  #ready = false;
  #count = 0;

  constructor(folder: string, tools: GuestTools, accelerator: Accelerator, options: GuestOptions) {
    this.#folder = folder;
    this.memoryFile = join(folder, 'memory');
    this.accelerator = accelerator;
    this.memoryBytes = options.memoryMiB * 2 ** 20;
    const initramfs = join(folder, 'initramfs');
    const { agent, countingDisk } = options;
    const modules = [
      ...(countingDisk === undefined ? [] : [VIRTIO_PCI, 'kernel/drivers/block/virtio_blk.ko']),
      ...(agent === undefined ? [] : [VIRTIO_PCI, 'kernel/drivers/char/virtio_console.ko']),
      ...(options.modules ?? []),
    ];
    writeInitramfs(initramfs, [
      ...guestEntries(tools.busybox, { ...options, countsOnDisk: countingDisk !== undefined }),
      ...moduleEntries(tools.kernel, modules),
    ]);
    const devices = (options.devices ?? []).flatMap((device) => ['-device', device]);
    const incoming = options.incoming === undefined ? [] : ['-incoming', options.incoming];
    const memory = memoryArguments(folder, options.memoryMiB, options.memory ?? 'file');
    const parameters = [...memory, ...qemuArguments(tools, folder, initramfs, accelerator)];
    this.#child = spawnTied([
      options.qemu ?? tools.qemu,
      ...parameters,
      ...devices,
      ...(countingDisk === undefined ? [] : ['-drive', `file=${countingDisk},format=raw,if=virtio`]),
      ...(agent === undefined ? [] : agentPort(this.agentSocket)),
      ...(options.arguments ?? []),
      ...incoming,
    ]);
    this.#isIncoming = options.incoming !== undefined;
    running.add(this);
    this.#child.stdout?.setEncoding('latin1').on('data', (text: string) => this.#readConsole(text));
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#errors += text));
    this.#child.on('error', (error) => (this.#errors += String(error)));
  }

  /** A QMP socket that nobody has connected to. */
  get qmpSocket(): string {
    return join(this.#folder, 'qmp2');
  }

  /** Of the guest agent, where there is one. */
  get agentSocket(): string {
    return join(this.#folder, 'agent');
  }

  get processId(): number | undefined {
    return this.#child.pid;
  }

  get qemuVersion(): string {
    return this.#qmp?.qemuVersion ?? '';
  }

  /** The last number that the counter in the guest has printed. */
  get count(): number {
    return this.#count;
  }

  async waitUntilReady(limitSeconds: number): Promise<void> {
    this.#qmp = await this.#whileAlive(QmpClient.open(join(this.#folder, 'qmp'), QMP_LIMIT_SECONDS));
    if (this.#isIncoming) return await this.#runOn(limitSeconds);
    if (this.accelerator === 'kvm') await this.#waitFor('start', KVM_ALIVE_LIMIT_SECONDS, () => this.#alive);
    await this.#waitFor('fill its memory', limitSeconds, () => this.#ready);
    this.bootSeconds = (performance.now() - this.#spawnedAt) / 1000;
  }

  /** After a migration: it goes on as it was, running or paused; here it is to run. */
  async #runOn(limitSeconds: number): Promise<void> {
    const deadline = performance.now() + limitSeconds * 1000;
    for (;;) {
      const { status } = (await this.qmp.execute('query-status')) as { status: string };
      if (status !== 'inmigrate') break;
      if (performance.now() > deadline) throw this.#failure(`the stream was not there in ${limitSeconds} s`);
      await sleep(20);
    }
    await this.resume();
    await this.waitForCountBeyond(0, limitSeconds);
  }

  /** Pauses every CPU of the guest: from here on its memory holds still. */
  async stop(): Promise<void> {
    await this.qmp.execute('stop');
    await this.#expectStatus('paused');
  }

  async resume(): Promise<void> {
    await this.qmp.execute('cont');
    await this.#expectStatus('running');
  }

  /**
   * Sends the guest to a URI of QEMU's ("exec:cat > FILE") and waits until all of it is there. Afterwards the guest is
   * paused; only {@link resume} leaves that state.
   */
  async migrate(uri: string, limitSeconds = 60): Promise<void> {
    await this.qmp.execute('migrate', { uri });
    const deadline = performance.now() + limitSeconds * 1000;
    for (;;) {
      const { status, 'error-desc': why } = (await this.qmp.execute('query-migrate')) as Record<string, string>;
      if (status === 'completed') return;
      if (status === 'failed' || status === 'cancelled') throw this.#failure(`the migration ${status}: ${why}`);
      if (performance.now() > deadline) throw this.#failure(`the migration is ${status} after ${limitSeconds} s`);
      await sleep(20);
    }
  }

  /** Waits until the guest has counted beyond a number: the proof that it lives. */
  async waitForCountBeyond(count: number, limitSeconds = 20): Promise<void> {
    await this.#waitFor(`count beyond ${count}`, limitSeconds, () => this.#count > count);
  }

  /** The connection to QEMU, for tests that ask for more. */
  get qmp(): QmpClient {
    if (this.#qmp === undefined) throw new Error('the guest has not answered yet');
    return this.#qmp;
  }

  /** Ends the guest and removes its files; never fails. */
  async close(): Promise<void> {
    if (this.#runs()) {
      const exited = once(this.#child, 'exit').catch(() => {});
      // QEMU may close the connection before it answers.
      this.#qmp?.execute('quit').catch(() => {});
      if (this.#qmp !== undefined)
        await Promise.race([exited, sleep(QUIT_LIMIT_SECONDS * 1000, undefined, { ref: false })]);
      if (this.#runs()) {
        this.#child.kill('SIGKILL');
        await exited;
      }
    }
    this.destroy();
  }

  /** The same without waiting, for the end of the process. */
  destroy(): void {
    running.delete(this);
    this.#qmp?.close();
    if (this.#runs()) this.#child.kill('SIGKILL');
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #expectStatus(expected: string): Promise<void> {
    const { status } = (await this.qmp.execute('query-status')) as { status: string };
    if (status !== expected) throw new Error(`the guest is ${status} and not ${expected}`);
  }

  #runs(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  #readConsole(text: string): void {
    this.#console = (this.#console + text).slice(-KEPT_CONSOLE_CHARACTERS);
    if (this.#console.includes(ALIVE_MARKER)) this.#alive = true;
    if (this.#console.includes(READY_MARKER)) this.#ready = true;
    // A number counts once its line is whole.
    const last = [...this.#console.matchAll(new RegExp(`${COUNT_MARKER} (\\d+)\\r?\\n`, 'g'))].at(-1);
    if (last !== undefined) this.#count = Number(last[1]);
  }

  async #waitFor(what: string, limitSeconds: number, reached: () => boolean): Promise<void> {
    const deadline = performance.now() + limitSeconds * 1000;
    while (!reached()) {
      if (!this.#runs()) throw this.#failure('QEMU ended');
      if (performance.now() > deadline) throw this.#failure(`the guest did not ${what} in ${limitSeconds} s`);
      await sleep(20);
    }
  }

  /** Waits for work that cannot end well once QEMU is gone. */
  async #whileAlive<T>(work: Promise<T>): Promise<T> {
    const ended = new AbortController();
    const death = this.#waitFor('end', Number.POSITIVE_INFINITY, () => ended.signal.aborted).then(() => work);
    try {
      return await Promise.race([work, death]);
    } finally {
      ended.abort();
      death.catch(() => {});
      work.catch(() => {});
    }
  }

  #failure(what: string): Error {
    const seen = this.#console.slice(-SHOWN_CONSOLE_CHARACTERS).trim();
    return new Error(
      `${what}. QEMU said: ${this.#errors.trim() || 'nothing'}. The guest's console ends with:\n${seen}`,
    );
  }
}

function memoryArguments(folder: string, memoryMiB: number, kind: NonNullable<GuestOptions['memory']>): string[] {
  const size = ['-m', `${memoryMiB}M`];
  if (kind === 'private') return [...size, '-machine', 'q35'];
  const backend = kind === 'file' ? `memory-backend-file,mem-path=${folder}/memory` : 'memory-backend-memfd';
  const object = `${backend},id=ram,share=on,size=${memoryMiB}M`;
  return [...size, '-machine', 'q35,memory-backend=ram', '-object', object];
}

function agentPort(socket: string): string[] {
  return [
    ...['-chardev', `socket,id=agent,path=${socket},server=on,wait=off`],
    ...['-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=agent,name=org.qemu.guest_agent.0'],
  ];
}

function qemuArguments(tools: GuestTools, folder: string, initramfs: string, accelerator: Accelerator): string[] {
  return [
    ...['-accel', accelerator, '-cpu', 'max', '-smp', '1'],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-nic', 'none', '-no-reboot'],
    ...['-kernel', tools.kernel, '-initrd', initramfs],
    // A panic ends QEMU (panic=-1 with -no-reboot), so that a guest that cannot boot is seen at once.
    // An emulated timer may tick too late on a busy machine, and the kernel's check of it would end in a panic.
    ...['-append', 'console=ttyS0 panic=-1 loglevel=4 random.trust_cpu=on no_timer_check'],
    ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
    ...['-qmp', `unix:${folder}/qmp,server=on,wait=off`],
    // A second one, for programs under test: QEMU takes one client a socket.
    ...['-qmp', `unix:${folder}/qmp2,server=on,wait=off`],
  ];
}

/** Starts a child that the kernel ends with us even if we are killed, where util-linux can arrange that. */
function spawnTied(command: string[]): ChildProcess {
  const setpriv = findProgram('setpriv');
  const tied = setpriv === undefined ? command : [setpriv, '--pdeathsig', 'KILL', '--', ...command];
  return spawn(tied[0]!, tied.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
}
