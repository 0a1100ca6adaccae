/** What a source says of itself, put together with what the caller asks for. */
import { checkSaveOptions, type SaveSettings, type SizeDefaults, usage } from './options.js';
import type { OpenedSource } from './source.js';
import type { SaveOptions } from './types.js';

/** What the file says of its machine is the default of what the caller says. */
export function withMachine<Options extends Pick<SaveOptions, 'name' | 'uuid'>>(
  options: Options,
  machine: OpenedSource['machine'],
): Options {
  return { ...options, name: options.name ?? machine.name, uuid: options.uuid ?? machine.uuid };
}

/** A source that counts in pages of its own is saved in them. */
export function settingsFor(
  source: Pick<OpenedSource, 'pageSize' | 'manifest' | 'description'>,
  asked: SaveSettings,
  options: SaveOptions,
  defaults?: SizeDefaults,
): SaveSettings {
  const { pageSize, manifest, description } = source;
  if (description.kind === 'pages' && asked.normalPageRatio > 0) {
    throw usage(`a normal page ratio is for raw memory, and the source is ${manifest.kind}`);
  }
  if (pageSize === undefined || pageSize === asked.pageSize) return asked;
  if (options.pageSize === undefined && defaults === undefined) return checkSaveOptions({ ...options, pageSize });
  throw usage(`the source has pages of ${pageSize} bytes, so an image of it cannot have ${asked.pageSize}`);
}
