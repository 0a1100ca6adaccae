/** The options that name keys, for reading and for encrypting, and how they reach the library. Secrets themselves are no options. */
import type { BaseDirOptions, EncryptionOptions, KeySources, SecretSources } from '../../lib/index.js';
import type { CommandContext, OptionSpec } from '../command.js';

const SECRET_OPTIONS: readonly OptionSpec[] = [
  { name: 'passphrase-file', kind: 'value', text: 'FILE; that holds the passphrase', rare: true },
  { name: 'passphrase-command', kind: 'value', text: 'COMMAND; that writes the passphrase', rare: true },
  { name: 'credential', kind: 'value', text: 'NAME; a systemd credential with a key or passphrase', rare: true },
];

/** Of commands that read images. */
export const KEY_OPTIONS: readonly OptionSpec[] = [
  { name: 'identity-file', kind: 'list', text: 'FILE; with a secret key of age, repeatable', rare: true },
  ...SECRET_OPTIONS,
];

/** Of commands that write them as well. */
export const ENCRYPTION_OPTIONS: readonly OptionSpec[] = [
  { name: 'encrypt-to', kind: 'list', text: 'RECIPIENT; encrypt for this public key of age (age1...)' },
  { name: 'recipients-file', kind: 'list', text: 'FILE; of such keys, one a line, repeatable', rare: true },
  ...KEY_OPTIONS,
];

/** Where bases and keys of the images that are read are found. */
export function imageOptions(context: CommandContext): BaseDirOptions {
  return { baseDirs: context.args.list('base-dir'), keys: keySources(context) };
}

const sourcesOf = new WeakMap<CommandContext, KeySources>();

/** The same object for a command's every image: the library reads the secrets of one only once. */
export function keySources(context: CommandContext): KeySources | undefined {
  const sources = sourcesOf.get(context) ?? {
    identityFiles: context.args.list('identity-file'),
    ...secretSources(context),
  };
  sourcesOf.set(context, sources);
  return (sources.identityFiles?.length ?? 0) > 0 || hasSecret(sources) ? sources : undefined;
}

/** Undefined: the image is not to be encrypted. */
export function encryptionOptions(context: CommandContext): EncryptionOptions | undefined {
  const { args } = context;
  const options = {
    recipients: args.list('encrypt-to'),
    recipientsFiles: args.list('recipients-file'),
    ...secretSources(context),
  };
  const isNamed = options.recipients.length + options.recipientsFiles.length > 0;
  return isNamed || hasSecret(options) ? options : undefined;
}

function secretSources({ args, talk }: CommandContext): SecretSources {
  return {
    passphraseFile: args.value('passphrase-file'),
    passphraseCommand: args.value('passphrase-command'),
    credential: args.value('credential'),
    onWarning: (warning) => talk.warning(warning.message),
  };
}

function hasSecret({ passphraseFile, passphraseCommand, credential }: SecretSources): boolean {
  return [passphraseFile, passphraseCommand, credential].some((source) => source !== undefined);
}
