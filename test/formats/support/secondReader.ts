/** The second reader of the format, test/reader/vmsnap_reader.py, as a test calls it. */
import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';

const run = promisify(execFile);

export interface SecondReading {
  readonly identity: string;
  readonly digest: string;
  readonly memoryBytes: number;
  readonly pages: Readonly<Record<string, number>>;
  readonly attachments: readonly { readonly name: string; readonly sizeBytes: number; readonly xxh3: string }[];
}

export interface Refusal {
  readonly exitCode: number;
  readonly message: string;
}

/** The repository: compiled tests lie in a folder below it. */
export function repositoryRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'binding.gyp'))) folder = dirname(folder);
  return folder;
}

/** What it says of a sound image; the memory goes to `output`. */
export async function readWithSecondReader(image: string, output?: string): Promise<SecondReading> {
  const { stdout } = await python([image, ...(output === undefined ? [] : [output])]);
  return JSON.parse(stdout) as SecondReading;
}

/** Why it refuses an image, or undefined if it reads it. */
export async function refusalOfSecondReader(image: string): Promise<Refusal | undefined> {
  try {
    await python([image]);
    return undefined;
  } catch (error) {
    const { code, stderr } = error as { code: number; stderr: string };
    return { exitCode: code, message: stderr };
  }
}

function python(args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  const script = join(repositoryRoot(), 'test', 'reader', 'vmsnap_reader.py');
  return run('python3', ['-B', script, ...args], { encoding: 'utf8' });
}

/**
 * What of `tools` is missing here, as a reason to skip; undefined: nothing. Where VMSNAP_REQUIRE_GUEST=1 promises a
 * machine that has everything, a missing tool fails the test.
 */
export function missingTool(t: ExecutionContext, tools: readonly ('python3' | 'zstd')[]): string | undefined {
  const missing = tools.find((tool) => spawnSync(tool, ['--version'], { stdio: 'ignore' }).error !== undefined);
  if (missing === undefined) return undefined;
  if (process.env.VMSNAP_REQUIRE_GUEST === '1') t.fail(`${missing} is not installed, and VMSNAP_REQUIRE_GUEST=1`);
  return `skipped: ${missing} is not installed, which the second reader needs`;
}
