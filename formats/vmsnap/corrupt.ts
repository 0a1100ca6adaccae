/** One message style for damage: which file, what is wrong, where. */
import { VmsnapError } from '../../native/errors.js';

export function corrupt(path: string, offset: number, what: string): VmsnapError {
  return new VmsnapError('CORRUPT', `${path} is damaged at offset ${offset}: ${what}`, {
    path,
    offset,
    hint: 'run "vmsnap verify" to see how far the damage goes, and restore the image from another copy',
  });
}

export function unsupported(path: string, offset: number, what: string): VmsnapError {
  return new VmsnapError('UNSUPPORTED', `${path}, offset ${offset}: ${what}`, {
    path,
    offset,
    hint: 'use a newer vmsnap',
  });
}
