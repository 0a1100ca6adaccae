/**
 * Things that only root on a machine with the right kernel can set up. Where they cannot be had a test is skipped with the
 * reason in its output; with VMSNAP_REQUIRE_GUEST=1, as in CI, it fails.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import type { Workspace } from './workspace.js';

function run(command: string, ...args: readonly string[]): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    throw new Error(`${command} ${args.join(' ')}: ${stderr?.trim() || message}`);
  }
}

/** @returns what `setUp` gives, or undefined after it has been told that the test is skipped. */
export function setUpOrSkip<T>(t: ExecutionContext, setUp: () => T): T | undefined {
  try {
    return setUp();
  } catch (error) {
    const reason = (error as Error).message;
    if (process.env.VMSNAP_REQUIRE_GUEST === '1') {
      t.fail(`VMSNAP_REQUIRE_GUEST is set, and this cannot be set up: ${reason}`);
    } else {
      t.log(`skipped: ${reason}`);
      t.pass();
    }
    return undefined;
  }
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

/** Reserves 2 MiB pages until the test ends. @throws where the machine has not so many. */
export function reserveHugePages(t: ExecutionContext, count: number): void {
  const before = readFileSync(HUGE_PAGES, 'utf8');
  t.teardown(() => writeFileSync(HUGE_PAGES, before));
  writeFileSync(HUGE_PAGES, String(count));
  const got = Number(readFileSync(HUGE_PAGES, 'utf8'));
  if (got < count) throw new Error(`the machine gives ${got} huge pages, not ${count}`);
}
