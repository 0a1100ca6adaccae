/** What an ELF core says of a machine's processors, taken from what an image holds beside the memory. */
import { decodeNotes, machineOfNotes, toolNotes } from '../formats/elf/notes.js';
import type { CoreMachine } from '../formats/elf/writeCore.js';
import type { ImageTail } from '../formats/vmsnap/imageFile.js';
import { MIB } from '../formats/vmsnap/layout.js';
import type { CoreFacts } from './exportAs.js';
import { Image } from './image.js';
import type { ImageInput } from './imageInput.js';
import type { Warning } from './types.js';
import { version } from './version.js';

/** The notes of the ELF core that the memory was saved from. */
const NOTES_ATTACHMENT = 'elf-notes';
/** A few KiB a processor. */
const NOTES_MAX_BYTES = 64 * MIB;
const ARCHITECTURE_LABEL = 'architecture';
const AARCH64_NAMES = ['aarch64', 'arm64'];

/** `tail` undefined: the image is a stream, whose attachments come too late. */
export async function coreFacts(
  input: ImageInput,
  tail: ImageTail | undefined,
  warn: (warning: Warning) => void,
): Promise<CoreFacts> {
  const labelled = labelledMachine(input);
  const notes = tail === undefined ? undefined : await attachedNotes({ input, tail }, warn);
  if (notes === undefined) return { machine: labelled ?? 'x86-64', notes: toolNotes(`vmsnap ${version}`) };
  return { machine: labelled ?? machineOfNotes(decodeNotes(notes)!) ?? 'x86-64', notes };
}

function labelledMachine({ head }: ImageInput): CoreMachine | undefined {
  const label = head.start.labels.get(ARCHITECTURE_LABEL);
  if (label === undefined) return undefined;
  return AARCH64_NAMES.includes(label.toLowerCase()) ? 'aarch64' : 'x86-64';
}

async function attachedNotes(
  opened: { input: ImageInput; tail: ImageTail },
  warn: (warning: Warning) => void,
): Promise<Buffer | undefined> {
  const found = opened.tail.end.attachments.find(({ name }) => name === NOTES_ATTACHMENT);
  if (found === undefined) return undefined;
  const bytes = found.sizeBytes > NOTES_MAX_BYTES ? undefined : await readAttachment(opened);
  if (bytes !== undefined && decodeNotes(bytes) !== undefined) return bytes;
  const message = `the attachment ${NOTES_ATTACHMENT} of ${opened.input.path} holds no notes of an ELF core: they are left out`;
  warn({ code: 'notes-left-out', message });
  return undefined;
}

async function readAttachment(opened: { input: ImageInput; tail: ImageTail }): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of new Image(opened).readAttachment(NOTES_ATTACHMENT)) parts.push(part);
  return Buffer.concat(parts);
}

/** Of a stream it is known only at its end that there were notes. */
export function hasNotes(tail: ImageTail): boolean {
  return tail.end.attachments.some(({ name }) => name === NOTES_ATTACHMENT);
}
