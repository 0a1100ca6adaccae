/**
 * `flatten`: an image and its bases in, one image that is whole by itself out.
 *
 * The same pipeline as a save, with the image's chain for a source. What describes the memory stays: time of the save,
 * machine, labels, source, attachments, and whether the source may have changed. What describes the file is new: the writer,
 * the codec if another is wanted, the identity.
 */

import { abortReason } from './abort.js';
import type { AttachmentInput } from './attachments.js';
import { closeImages, imageRegions, mayHaveAbsent, type OpenedImage, openBases, openWholeImage } from './chain.js';
import { ofCpu } from './detector.js';
import { createSeal } from './encryption/createSeal.js';
import { ReplacementFile } from './files/replacementFile.js';
import { Image } from './image.js';
import { checkSaveOptions, type SaveSettings, usage } from './options.js';
import { describeLink } from './readJobs.js';
import { requireOtherFile, Save, type SaveInputs } from './save.js';
import type { FlattenOptions, SaveOptions, SaveResult } from './types.js';

/**
 * Makes an image whole by itself.
 * @param image the image file, differential or not.
 * @param target the new image file, or `-` for standard output.
 * @throws VmsnapError: BASE_MISMATCH if a base cannot be found, CORRUPT if the memory is not what the image says, ...; the
 * target's name is then as it was before.
 */
export async function flatten(image: string, target: string, options: FlattenOptions = {}): Promise<SaveResult> {
  options.signal?.throwIfAborted();
  const opened: OpenedImage[] = [];
  let file: ReplacementFile | undefined;
  try {
    const top = await openWholeImage(image, options);
    opened.push(top);
    opened.push(...(await openBases(top.input, options)));
    requireEncryption(top, options);
    const saveOptions = flattenOptions(top, options);
    const settings = keptSettings(top, saveOptions);
    if (target !== '-') {
      requireOtherFile(
        opened.map(({ input }) => input),
        'source',
        target,
      );
      file = ReplacementFile.open(target, { what: 'image', force: options.force ?? false });
    }
    const seal = await createSeal(options.encryption, options.signal);
    return await new Save(target, saveOptions, settings, { ...chainInputs(opened, file), seal }).run();
  } catch (error) {
    throw abortReason(error, options.signal);
  } finally {
    file?.discard();
    closeImages(opened);
  }
}

/** An encrypted image does not come out in the clear by oversight. */
function requireEncryption({ input }: OpenedImage, { encryption, decrypt = false }: FlattenOptions): void {
  if (decrypt && encryption !== undefined) throw usage('decrypt or encrypt: not both');
  if (decrypt || encryption !== undefined || input.head.start.encryption === undefined) return;
  throw usage(
    `${input.path} is encrypted, and the new image would not be`,
    'name who can read it (--encrypt-to, --passphrase-file), or ask for it in the clear (--decrypt)',
  );
}

function flattenOptions({ input }: OpenedImage, options: FlattenOptions): SaveOptions {
  const { codec, machine } = input.head.start;
  const name = options.codec ?? codec.name;
  const level = options.level ?? (name === codec.name ? codec.level : undefined);
  return { ...options, codec: name, level, name: machine.name, uuid: machine.uuid };
}

function keptSettings({ input }: OpenedImage, options: SaveOptions): SaveSettings {
  const { start } = input.head;
  return { ...checkSaveOptions(options, start), labels: start.labels, createdAt: start.createdAt };
}

function chainInputs(chain: readonly OpenedImage[], file: ReplacementFile | undefined): SaveInputs {
  const top = chain[0]!;
  const { input, tail } = top;
  return {
    source: {
      description: { kind: 'image', links: chain.map(describeLink) },
      manifest: input.head.start.source,
      regions: imageRegions(top),
      guarded: [],
      unwrapping: undefined,
    },
    base: [],
    attachments: tail.end.attachments.map(({ name }) => imageAttachment(top, name)),
    file,
    detector: ofCpu('auto', 'an image tells which of its pages are zero', undefined),
    mayHaveAbsent: chain.some(mayHaveAbsent),
    known: { mayHaveChanged: tail.end.source.mayHaveChanged, digest: tail.end.digest, path: input.path },
  };
}

/** An attachment of the image, as one of a new image. The image stays the caller's to close. */
function imageAttachment(image: OpenedImage, name: string): AttachmentInput {
  const parts = new Image(image).readAttachment(name);
  let rest: Buffer = Buffer.alloc(0);
  const read = async (into: Buffer): Promise<number> => {
    let done = 0;
    while (done < into.length) {
      if (rest.length === 0) {
        const next = await parts.next();
        if (next.done) break;
        rest = next.value;
      }
      const bytes = rest.copy(into, done);
      rest = rest.subarray(bytes);
      done += bytes;
    }
    return done;
  };
  return { name, read };
}
