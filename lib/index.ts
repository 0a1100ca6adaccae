/**
 * vmsnap as a library: save, load, flatten, verify, inspect, extract, and random reads from an image.
 *
 * Everything thrown is a {@link VmsnapError} with a stable `code`, or the reason of the caller's AbortSignal.
 */
import { type DetectorStatus, native } from '../native/binding.js';

export type { DetectorStatus } from '../native/binding.js';
export type * from './backup/config/backupConfig.js';
export { BACKUP_CONFIG_FILE, readBackupConfig } from './backup/config/readBackupConfig.js';
export type * from './backup/report.js';
export { type BackupOptions, runBackup } from './backup/runBackup.js';
export { bench } from './bench/bench.js';
export * from './bench/types.js';
export { compare } from './compare.js';
export { doctor } from './doctor/doctor.js';
export type * from './doctor/report.js';
export { DsaDevice, type DsaDeviceOptions, openDsa } from './dsaDevice.js';
export { parseDuration } from './duration.js';
export { type ErrorCode, EXIT_CODES, VmsnapError } from './errors.js';
export { estimate } from './estimate.js';
export { extract } from './extract.js';
export { flatten } from './flatten.js';
export { Image, openImage } from './image.js';
export { inspect } from './inspect.js';
export { inspectMemoryFile } from './inspectMemoryFile.js';
export { load, restoreDrill } from './load.js';
export { loadMachine } from './qemu/incoming/loadMachine.js';
export type * from './qemu/incoming/machineTypes.js';
export { resume } from './qemu/incoming/resume.js';
export { salvage } from './salvage.js';
export { save } from './save.js';
export { systemTimeZone } from './store/calendar.js';
export { checkStore } from './store/check.js';
export { type FolderLock, type LockOptions, lockFolder } from './store/folderLock.js';
export { listStore, machineTitle } from './store/listStore.js';
export { pruneStore } from './store/prune.js';
export { checkPolicy, planRetention } from './store/retention.js';
export type * from './store/storeTypes.js';
export { selectSubset, subsetOfDay } from './store/subset.js';
export { defaultThreads } from './threads.js';
export type * from './types.js';
export { verify } from './verify.js';
export { version } from './version.js';
export { warmUp } from './warmUp.js';

/** The ways to tell zero pages from data pages that this build knows, best first, and whether each works here. */
export function listDetectors(): DetectorStatus[] {
  return native.detectors();
}
