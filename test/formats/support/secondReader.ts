/** The second reader of the format, test/reader/vmsnap_reader.py, as a test calls it. */
import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';

const run = promisify(execFile);

/** Debian's, which has Debian's modules (python3-cryptography), whatever else is in PATH. */
const PYTHON = existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3';

/** What opens encrypted images. */
export interface KeyFiles {
  readonly identityFile?: string;
  readonly passphraseFile?: string;
}

function keyArguments({ identityFile, passphraseFile }: KeyFiles): string[] {
  const identity = identityFile === undefined ? [] : ['--identity-file', identityFile];
  return passphraseFile === undefined ? identity : [...identity, '--passphrase-file', passphraseFile];
}

export interface SecondReading {
  readonly identity: string;
  readonly digest: string;
  readonly memoryBytes: number;
  readonly pages: Readonly<Record<string, number>>;
  readonly attachments: readonly { readonly name: string; readonly sizeBytes: number; readonly xxh3: string }[];
}

/** The repository: compiled tests lie in a folder below it. */
export function repositoryRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'binding.gyp'))) folder = dirname(folder);
  return folder;
}

/** What it says of a sound image; the memory goes to `output`. */
export async function readWithSecondReader(
  image: string,
  output?: string,
  keys: KeyFiles = {},
): Promise<SecondReading> {
  const args = [...keyArguments(keys), image, ...(output === undefined ? [] : [output])];
  const { stdout } = await python('vmsnap_reader.py', args);
  return JSON.parse(stdout) as SecondReading;
}

/** Why it refuses each of the images; undefined: it does not. All in one process. */
export async function refusalsOfSecondReader(
  images: readonly string[],
  baseDirs: readonly string[] = [],
  keys: KeyFiles = {},
): Promise<Map<string, string | undefined>> {
  const { stdout } = await python('check_images.py', [
    ...baseDirs.flatMap((folder) => ['--base-dir', folder]),
    ...keyArguments(keys),
    ...images,
  ]);
  const lines = stdout.trimEnd().split('\n');
  const answers = lines.map((line) => JSON.parse(line) as { image: string; refusal: string | null });
  return new Map(answers.map(({ image, refusal }) => [image, refusal ?? undefined]));
}

/** Exit code and message of the command itself. */
export async function runSecondReader(args: readonly string[]): Promise<{ exitCode: number; message: string }> {
  try {
    await python('vmsnap_reader.py', args);
    return { exitCode: 0, message: '' };
  } catch (error) {
    const { code, stderr } = error as { code: number; stderr: string };
    return { exitCode: code, message: stderr };
  }
}

function python(name: string, args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  const script = join(repositoryRoot(), 'test', 'reader', name);
  return run(PYTHON, ['-B', script, ...args], { encoding: 'utf8' });
}

type Tool = 'python3' | 'zstd' | 'python3-cryptography';

function isThere(tool: Tool): boolean {
  if (tool === 'python3-cryptography') return spawnSync(PYTHON, ['-c', 'import cryptography']).status === 0;
  return spawnSync(tool === 'python3' ? PYTHON : tool, ['--version'], { stdio: 'ignore' }).error === undefined;
}

/**
 * What of `tools` is missing here, as a reason to skip; undefined: nothing. Where VMSNAP_REQUIRE_GUEST=1 promises a
 * machine that has everything, a missing tool fails the test.
 */
export function missingTool(t: ExecutionContext, tools: readonly Tool[]): string | undefined {
  const missing = tools.find((tool) => !isThere(tool));
  if (missing === undefined) return undefined;
  if (process.env.VMSNAP_REQUIRE_GUEST === '1') t.fail(`${missing} is not installed, and VMSNAP_REQUIRE_GUEST=1`);
  return `skipped: ${missing} is not installed, which the second reader needs`;
}

/** Ends a test that cannot run here; the reason stands in the output. */
export function skip(t: ExecutionContext, reason: string): void {
  t.log(reason);
  t.pass(reason);
}
