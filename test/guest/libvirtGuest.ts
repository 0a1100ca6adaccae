/**
 * A small guest under a libvirt daemon of its own: as a user without privilege (`qemu:///session`), with all of its files in one
 * folder. Whoever is root, as a test is, can talk to it through virsh.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { findProgram, type GuestTools } from './availability.js';
import { guestEntries } from './content.js';
import { COUNT_MARKER, READY_MARKER } from './init.js';
import { writeInitramfs } from './initramfs.js';

export const LIBVIRT_NAME = 'vmsnap-test';
export const LIBVIRT_UUID = '6f1c2d3e-4b5a-4c6d-8e7f-001122334455';
const SYSTEM_FOLDER = '/run/libvirt/qemu';
const NOBODY = 65_534;
const BOOT_LIMIT_SECONDS = 180;
const COMMAND_LIMIT_SECONDS = 60;
const START_LIMIT_SECONDS = 30;
const SAID_MAX_LENGTH = 16_384;

const run = promisify(execFile);

/** Why there is no such guest here, or undefined. */
export function libvirtMissing(): string | undefined {
  if (process.getuid?.() !== 0) return 'libvirtd is run as another user, which root alone can';
  for (const program of ['virsh', 'libvirtd', 'setpriv'])
    if (findProgram(program) === undefined) return `${program} is not there`;
  return existsSync('/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so')
    ? undefined
    : 'the QEMU driver of libvirt is not there (Debian package libvirt-daemon-driver-qemu)';
}

export class LibvirtGuest {
  /** Tells virsh where this daemon is. */
  readonly uri: string;
  readonly #folder: string;
  readonly #memoryMiB: number;
  readonly #daemon: ChildProcess;
  #said = '';

  private constructor(folder: string, memoryMiB: number, saveFormat: string) {
    this.#folder = folder;
    this.#memoryMiB = memoryMiB;
    const home = join(folder, 'root');
    this.uri = `qemu:///session?socket=${join(home, 'libvirt/libvirt-sock')}`;
    writeFileSync(join(home, 'libvirt/qemu.conf'), configuration(folder, saveFormat));
    const identity = ['--reuid', `${NOBODY}`, '--regid', `${NOBODY}`, '--clear-groups'];
    const env = {
      PATH: process.env.PATH,
      HOME: home,
      XDG_RUNTIME_DIR: home,
      XDG_CONFIG_HOME: home,
      XDG_CACHE_HOME: home,
    };
    this.#daemon = spawn('setpriv', [...identity, '--pdeathsig', 'TERM', '--', 'libvirtd'], { env, stdio: 'pipe' });
    for (const output of [this.#daemon.stdout!, this.#daemon.stderr!])
      output
        .setEncoding('utf8')
        .on('data', (text: string) => (this.#said = (this.#said + text).slice(-SAID_MAX_LENGTH)));
  }

  /** `folder`: of this guest alone; files land in it. Whoever boots a guest closes it. */
  static async boot(folder: string, tools: GuestTools, memoryMiB: number, saveFormat: string): Promise<LibvirtGuest> {
    mkdirSync(join(folder, 'root/libvirt'), { recursive: true });
    writeInitramfs(join(folder, 'initramfs'), guestEntries(tools.busybox, { memoryMiB }));
    writeFileSync(join(folder, 'domain.xml'), domainXml(folder, tools, memoryMiB));
    for (const name of ['.', ...readdirSync(folder, { recursive: true, encoding: 'utf8' })])
      chownSync(join(folder, name), NOBODY, NOBODY);
    chmodSync(join(folder, 'initramfs'), 0o644);
    const guest = new LibvirtGuest(folder, memoryMiB, saveFormat);
    try {
      await guest.#until('listen', START_LIMIT_SECONDS, () => existsSync(join(folder, 'root/libvirt/libvirt-sock')));
      await guest.#virsh('create', join(folder, 'domain.xml'));
      await guest.#until('fill its memory', BOOT_LIMIT_SECONDS, () => guest.console.includes(READY_MARKER));
      return guest;
    } catch (error) {
      await guest.close();
      throw error;
    }
  }

  /** What it has said on its serial port. */
  get console(): string {
    return readText(join(this.#folder, 'console'));
  }

  /** Resolves once it has counted on from here. */
  async countsOn(): Promise<void> {
    const from = this.console.length;
    await this.#until('count on', COMMAND_LIMIT_SECONDS, () => this.console.slice(from).includes(COUNT_MARKER));
  }

  async suspend(): Promise<void> {
    await this.#virsh('suspend', LIBVIRT_NAME);
  }

  async resume(): Promise<void> {
    await this.#virsh('resume', LIBVIRT_NAME);
  }

  /** As libvirt has it: `running`, `paused`. */
  async state(): Promise<string> {
    return (await this.#virsh('domstate', LIBVIRT_NAME)).trim();
  }

  /** The file that is the guest's memory; gone once it is saved. */
  get memoryFile(): string {
    const folder = join(this.#folder, 'root');
    const bytes = this.#memoryMiB * 2 ** 20;
    const found = readdirSync(folder, { recursive: true, encoding: 'utf8' }).find((name) => {
      const stats = statSync(join(folder, name), { throwIfNoEntry: false });
      return stats?.isFile() && stats.size === bytes;
    });
    if (found === undefined) throw new Error(`no file of ${bytes} bytes below ${folder}`);
    return join(folder, found);
  }

  /** `virsh dump --memory-only`: the guest stays as it is. */
  async dump(file: string, format: 'elf' | 'kdump-zlib'): Promise<void> {
    await this.#virsh('dump', LIBVIRT_NAME, file, '--memory-only', '--format', format);
  }

  /** Ends the guest. */
  async save(file: string): Promise<void> {
    await this.#virsh('save', LIBVIRT_NAME, file);
  }

  /** Ends the guest if it is there, and the daemon. */
  async close(): Promise<void> {
    if (this.#hasEnded) return;
    await this.#virsh('destroy', LIBVIRT_NAME).catch(() => {});
    const exited = once(this.#daemon, 'exit');
    this.#daemon.kill('SIGTERM');
    await Promise.race([exited, sleep(20_000, undefined, { ref: false })]);
    if (!this.#hasEnded) this.#daemon.kill('SIGKILL');
    this.#killMachine();
  }

  /**
   * A daemon of the system has it in this place which process its QEMU is: from there a save by root knows whose QEMU is.
   * @returns what takes it away again.
   */
  showProcess(): () => void {
    mkdirSync(SYSTEM_FOLDER, { recursive: true });
    const shown = join(SYSTEM_FOLDER, `${LIBVIRT_NAME}.pid`);
    // One of a run that was killed.
    rmSync(shown, { force: true });
    symlinkSync(this.#pidFile!, shown);
    return () => rmSync(shown);
  }

  get #pidFile(): string | undefined {
    const folder = join(this.#folder, 'root');
    const found = readdirSync(folder, { recursive: true, encoding: 'utf8' });
    const name = found.find((file) => file.endsWith(`${LIBVIRT_NAME}.pid`));
    return name === undefined ? undefined : join(folder, name);
  }

  get #hasEnded(): boolean {
    return this.#daemon.exitCode !== null || this.#daemon.signalCode !== null;
  }

  /** QEMU outlives a daemon that could not end it. */
  #killMachine(): void {
    const file = this.#pidFile;
    const pid = file === undefined ? Number.NaN : Number(readText(file).trim());
    if (!(pid > 0) || !readText(`/proc/${pid}/cmdline`).includes(LIBVIRT_NAME)) return;
    process.kill(pid, 'SIGKILL');
  }

  async #virsh(...words: string[]): Promise<string> {
    const options = { timeout: COMMAND_LIMIT_SECONDS * 1000 };
    const { stdout } = await run('virsh', ['-c', this.uri, '--quiet', ...words], options);
    return stdout;
  }

  async #until(what: string, limitSeconds: number, reached: () => boolean): Promise<void> {
    const deadline = performance.now() + limitSeconds * 1000;
    while (!reached()) {
      if (this.#hasEnded) throw new Error(`libvirtd ended. It said: ${this.#said}`);
      if (performance.now() > deadline)
        throw new Error(`no "${what}" in ${limitSeconds} s. libvirtd said: ${this.#said}`);
      await sleep(50);
    }
  }
}

function readText(path: string): string {
  return existsSync(path) ? readFileSync(path, 'latin1') : '';
}

function configuration(folder: string, saveFormat: string): string {
  return `dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
memory_backing_dir = "${join(folder, 'root')}"
save_image_format = "${saveFormat}"
`;
}

function domainXml(folder: string, tools: GuestTools, memoryMiB: number): string {
  return `<domain type='qemu'>
  <name>${LIBVIRT_NAME}</name>
  <uuid>${LIBVIRT_UUID}</uuid>
  <memory unit='MiB'>${memoryMiB}</memory>
  <memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>${tools.kernel}</kernel>
    <initrd>${join(folder, 'initramfs')}</initrd>
    <cmdline>console=ttyS0 panic=-1 loglevel=4 random.trust_cpu=on no_timer_check</cmdline>
  </os>
  <cpu mode='maximum'/>
  <devices>
    <emulator>${tools.qemu}</emulator>
    <serial type='file'><source path='${join(folder, 'console')}'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
`;
}
