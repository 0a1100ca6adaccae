/** `vmsnap completion`: the script with which a shell completes commands, options and their words. */
import type { CommandContext, CommandSpec } from '../command.js';
import { UsageError } from '../usageError.js';

const SHELLS = ['bash'];

export const completionCommand: CommandSpec = {
  name: 'completion',
  summary: 'print the script for completion in bash',
  usage: ['completion bash'],
  options: [],
  examples: [
    ['source <(vmsnap completion bash)', 'for this shell'],
    ['vmsnap completion bash > FILE', 'for good; FILE below /etc/bash_completion.d'],
  ],
  positionalChoices: SHELLS,
  lastIsOutput: false,
  run: runCompletion,
};

async function runCompletion({ args, answer }: CommandContext): Promise<number> {
  const [shell] = args.requirePositionals(['SHELL']);
  if (!SHELLS.includes(shell!)) {
    throw new UsageError(`there is no completion for ${JSON.stringify(shell)}`, `the shells are ${SHELLS.join(', ')}`);
  }
  const [{ COMMANDS }, { bashCompletion }, { toolVersion }] = await Promise.all([
    import('../commandTable.js'),
    import('../completion/bash.js'),
    import('../version.js'),
  ]);
  const specs = await Promise.all(COMMANDS.map((command) => command.load()));
  await answer.line(bashCompletion(specs, toolVersion()));
  return 0;
}
