/** The names of images: a template with {vm}, {job}, {host} and {utc}. */
import { fileNameFault } from '../../../formats/vmsnap/manifest.js';
import { nearest } from '../../nearestWord.js';

const PLACEHOLDERS = ['vm', 'job', 'host', 'utc'] as const;
export type NameParts = Readonly<Record<(typeof PLACEHOLDERS)[number], string>>;

const SUFFIX = '.vmsnap';
/** A file name may have 255 bytes, and the temporary file's has some more than the image's. */
const NAME_MAX_BYTES = 230;

/** Undefined if names can be made of it. */
export function templateFault(template: string): { message: string; hint: string | undefined } | undefined {
  const unknown = /\{([^{}]*)\}|[{}]/.exec(template.replace(/\{(vm|job|host|utc)\}/g, ''));
  if (unknown !== null) {
    const meant = nearest(unknown[1] ?? '', PLACEHOLDERS);
    const hint = meant === undefined ? 'there are {vm}, {job}, {host} and {utc}' : `did you mean {${meant}}?`;
    return { message: `has ${unknown[0]} in it, which stands for nothing`, hint };
  }
  const example = expandName(template, { vm: 'v', job: 'j', host: 'h', utc: '20000101T000000Z' });
  if (!template.includes('{utc}')) {
    return { message: 'has no {utc}', hint: 'each image needs a name of its own, as "{vm}-{utc}.vmsnap"' };
  }
  if (!template.endsWith(SUFFIX)) return { message: `does not end with ${SUFFIX}`, hint: undefined };
  if (template.startsWith('.'))
    return { message: 'begins with a dot: a hidden file is no part of a store', hint: undefined };
  const fault = fileNameFault(example);
  return fault === undefined ? undefined : { message: fault, hint: 'the folder is a key of its own' };
}

/** What is put in cannot add a folder or anything that a terminal would obey. */
export function expandName(template: string, parts: NameParts): string {
  return template.replace(/\{(\w+)\}/g, (whole, word: string) => {
    if (!Object.hasOwn(parts, word)) return whole;
    return parts[word as keyof NameParts].replace(/[/\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '_');
  });
}

/** As {@link templateFault}, of a name that was made. */
export function nameFault(name: string): string | undefined {
  if (name.startsWith('.')) return 'begins with a dot';
  if (Buffer.byteLength(name) > NAME_MAX_BYTES) return `is longer than ${NAME_MAX_BYTES} bytes`;
  return fileNameFault(name);
}

/** 20261122T021500Z: sorts by time, and every file system takes it. */
export function utcText(milliseconds: number): string {
  return `${new Date(milliseconds).toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`;
}
