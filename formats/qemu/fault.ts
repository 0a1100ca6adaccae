/** What native code found wrong with a migration stream, as an error. */
import type { QemuFault } from '../../native/binding.js';
import { errnoError, VmsnapError } from '../../native/errors.js';

/** `tablePath`: the file of the page table, if there is one. */
export function faultError(fault: QemuFault, path: string, tablePath?: string): VmsnapError {
  const { kind, offset, what } = fault;
  if (kind === 'system') {
    return fault.ofTable && tablePath !== undefined
      ? errnoError(fault.error, 'write the page table to', tablePath)
      : errnoError(fault.error, 'read', path, offset);
  }
  if (kind === 'unsupported') {
    return new VmsnapError('UNSUPPORTED', `${path} (QEMU migration stream), offset ${offset}: ${what}`, {
      path,
      offset,
      hint: fault.hint,
    });
  }
  return corruptStream(path, offset, what);
}

export function corruptStream(path: string, offset: number, what: string): VmsnapError {
  return new VmsnapError('CORRUPT', `${path} (QEMU migration stream) is damaged at offset ${offset}: ${what}`, {
    path,
    offset,
    hint: 'was the migration completed, and the file copied whole?',
  });
}
