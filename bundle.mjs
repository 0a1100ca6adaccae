/**
 * Bundles the compiled command line into dist/bundle/: `vmsnap.cjs`, one file for each command, `worker.cjs` for the
 * worker threads and `guardMain.cjs` for the process that guards a stopped machine. A start then reads two or three files instead of a hundred.
 *
 * CommonJS, because Node loads it faster, and because what a bundled module imports is then loaded when that module is first used.
 * Not minified: that brings nothing measurable, and stack traces stay readable. Packages stay outside.
 */
import { readdirSync, rmSync } from 'node:fs';
import { build } from 'esbuild';

const OUT_FOLDER = 'dist/bundle';
const COMMANDS_FOLDER = 'dist/cli/commands';

/** Each command is a file of its own, so that a start reads no other command's code. */
const commandsApart = {
  name: 'commands-apart',
  setup(bundler) {
    bundler.onResolve({ filter: /^\.\/commands\/\w+\.js$/ }, ({ path }) => ({
      path: path.replace('./commands/', './').replace('.js', '.cjs'),
      external: true,
    }));
  },
};

const commandTable = (await import('./dist/cli/commandTable.js')).COMMANDS;
const commands = commandTable.map(({ name }) => name);

for (const name of commands) {
  if (!readdirSync(COMMANDS_FOLDER).includes(`${name}.js`))
    throw new Error(`the command ${name} has no file of its name`);
}
rmSync(OUT_FOLDER, { recursive: true, force: true });
await build({
  entryPoints: {
    vmsnap: 'dist/cli/main.js',
    worker: 'dist/lib/pipeline/worker.js',
    guardMain: 'dist/lib/qemu/guardMain.js',
    ...Object.fromEntries(commands.map((name) => [name, `${COMMANDS_FOLDER}/${name}.js`])),
  },
  outdir: OUT_FOLDER,
  outExtension: { '.js': '.cjs' },
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20.19',
  packages: 'external',
  plugins: [commandsApart],
  // Else Node would bring its loader of ECMAScript modules into it.
  supported: { 'dynamic-import': false },
  define: { 'import.meta.url': 'bundleUrl' },
  banner: { js: "const bundleUrl = require('node:url').pathToFileURL(__filename).href;" },
  logLevel: 'warning',
});
