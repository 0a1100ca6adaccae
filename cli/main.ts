#!/usr/bin/env node
/** The entry of the command `vmsnap`. Answers `--version` before anything else is loaded. */
import { toolVersion } from './version.js';

const args = process.argv.slice(2);
if (args[0] === '--version') process.stdout.write(`vmsnap ${toolVersion()}\n`);
else void runCommand();

async function runCommand(): Promise<void> {
  const { run } = await import('./run.js');
  process.exitCode = await run(args);
}
