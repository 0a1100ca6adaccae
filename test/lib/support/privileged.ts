/**
 * Things that only root on a machine with the right kernel can set up. Where they cannot be had a test is skipped, and its
 * title says why; with VMSNAP_REQUIRE_GUEST=1, as in CI, it fails.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { needing } from '../../support/needing.js';
import type { Workspace } from './workspace.js';

function run(command: string, ...args: readonly string[]): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    // What failed stands behind paths that are other ones in each run.
    const reason = (stderr?.trim() || message).split(': ').at(-1)!.split('. ')[0];
    throw new Error(`${command}: ${reason}`);
  }
}

/** Why `probe` fails, or undefined. In CI nothing may be missing: there the tests run, and fail. */
function missing(probe: () => void): string | undefined {
  if (process.env.VMSNAP_REQUIRE_GUEST === '1') return undefined;
  try {
    probe();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** As {@link needing}, but one test after the other. */
function serialNeeding(reason: string | undefined): ReturnType<typeof needing> {
  if (reason === undefined) return (title, implementation) => test.serial(title, implementation);
  return (title, implementation) => test.serial.skip(`${title} (SKIPPED: ${reason})`, implementation);
}

/** A test that mounts a file system. */
export function onMount(): ReturnType<typeof needing> {
  return needing(missing(() => probeMount('tmpfs', 'size=1m')));
}

/** A test with a loop device. */
export function onLoopDevice(): ReturnType<typeof needing> {
  return needing(missing(() => inFolder((folder) => probeLoopDevice(join(folder, 'disk')))));
}

/** A test with `count` pages of 2 MiB, of which the machine has one pool. */
export function onHugePages(count: number): ReturnType<typeof needing> {
  return serialNeeding(
    missing(() => {
      probeMount('hugetlbfs', 'pagesize=2M');
      setHugePages(count)();
    }),
  );
}

/** A test that runs a program. */
export function onProgram(name: string): ReturnType<typeof needing> {
  return needing(missing(() => run(name, '--version')));
}

/** A test that needs what `probe` tries. */
export function onProbe(probe: () => void): ReturnType<typeof needing> {
  return needing(missing(probe));
}

function inFolder(action: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'vmsnap-lib-probe-'));
  try {
    action(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function probeMount(type: string, options: string): void {
  inFolder((folder) => {
    run('mount', '-t', type, '-o', options, 'vmsnap-test', folder);
    run('umount', folder);
  });
}

function probeLoopDevice(file: string): void {
  writeFileSync(file, Buffer.alloc(4096));
  run('losetup', '--detach', run('losetup', '--find', '--show', file));
}

/** Mounts a file system in the workspace until the test ends. @returns its folder. */
export function mount(t: ExecutionContext, folder: Workspace, type: string, options: string): string {
  const mountPoint = folder.path(`${type}-mount`);
  mkdirSync(mountPoint);
  run('mount', '-t', type, '-o', options, 'vmsnap-test', mountPoint);
  t.teardown(() => run('umount', '-l', mountPoint));
  return mountPoint;
}

/** A block device over a file, until the test ends. */
export function loopDevice(t: ExecutionContext, file: string): string {
  const device = run('losetup', '--find', '--show', file);
  t.teardown(() => run('losetup', '--detach', device));
  return device;
}

const HUGE_PAGES = '/proc/sys/vm/nr_hugepages';

/** Reserves 2 MiB pages until the test ends. */
export function reserveHugePages(t: ExecutionContext, count: number): void {
  t.teardown(setHugePages(count));
}

/** @returns what sets the pool back. @throws where the machine has not so many. */
function setHugePages(count: number): () => void {
  const before = readFileSync(HUGE_PAGES, 'utf8');
  const restore = () => writeFileSync(HUGE_PAGES, before);
  writeFileSync(HUGE_PAGES, String(count));
  const got = Number(readFileSync(HUGE_PAGES, 'utf8'));
  if (got >= count) return restore;
  restore();
  throw new Error(`the machine gives ${got} huge pages, not ${count}`);
}
