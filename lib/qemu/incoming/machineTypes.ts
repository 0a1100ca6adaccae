/** Options and results of bringing a machine back. Sizes are bytes, times seconds. */
import type { BaseDirOptions, CommonOptions, Warning } from '../../types.js';
import type { QmpCommand } from './qemuArguments.js';

export type { QmpCommand };

export interface LoadMachineOptions extends CommonOptions, BaseDirOptions {
  /** Replace a folder that an earlier one has made. */
  readonly force?: boolean | undefined;
}

export interface RestoredMemory {
  /** Name of the RAM block. */
  readonly block: string;
  readonly path: string;
  readonly sizeBytes: number;
}

/** A disk that the machine may write. */
export interface DiskState {
  readonly node: string;
  readonly file: string | null;
  readonly snapshots: readonly string[];
  /** By its size and the time of its last write; unknown where it has none, or they were not recorded. */
  readonly state: 'unchanged' | 'changed' | 'unknown';
  readonly difference: string | null;
}

export interface LoadMachineResult {
  readonly image: string;
  /** Absolute. */
  readonly folder: string;
  readonly memoryFiles: readonly RestoredMemory[];
  /** A migration stream, with the memory that is in no file. */
  readonly stateFile: string;
  /** Null where the image does not tell. */
  readonly qemuVersion: string | null;
  readonly machineType: string | null;
  /** The whole command line, where the image has recorded that of the saved machine. */
  readonly command: readonly string[] | null;
  /** What the command line of the saved machine must be given in place of its own memory, or beside it. */
  readonly arguments: readonly string[];
  /** What that QEMU is told then, on its QMP socket. */
  readonly commands: readonly QmpCommand[];
  readonly disks: readonly DiskState[];
  readonly memoryBytes: number;
  readonly dataBytes: number;
  /** Bytes read of the image and its bases. */
  readonly imageBytes: number;
  /** Of the memory; all of it was checked. */
  readonly digest: string;
  readonly run: { readonly threads: number; readonly durationSeconds: number };
  readonly warnings: readonly Warning[];
}

export interface ResumeOptions extends CommonOptions, BaseDirOptions {
  /** Where a private folder for the memory files is made; default /dev/shm. */
  readonly memoryDir?: string | undefined;
  /** Leave the machine paused. */
  readonly paused?: boolean | undefined;
  /** The caller has seen to the disks: they are not looked at. */
  readonly disksRestored?: boolean | undefined;
  /** What QEMU says on standard error, as it comes; its other streams are those of this process. */
  readonly onQemuOutput?: ((bytes: Buffer) => void) | undefined;
}

export interface ResumeResult {
  readonly image: string;
  readonly qemuVersion: string;
  readonly machineType: string | null;
  readonly status: 'running' | 'paused';
  /** Of the process that was started; null if it has gone into the background (-daemonize). */
  readonly processId: number | null;
  /** A QMP socket of this machine, for as long as it lives. */
  readonly qmpSocket: string;
  readonly memoryFiles: readonly RestoredMemory[];
  readonly memoryBytes: number;
  readonly dataBytes: number;
  readonly imageBytes: number;
  /** Of the memory; all of it was checked before the machine ran. */
  readonly digest: string;
  readonly run: {
    readonly threads: number;
    readonly durationSeconds: number;
    /** Spent on memory files, before QEMU was started. */
    readonly filesSeconds: number;
    /** From the first to the last byte of the migration stream. */
    readonly streamSeconds: number;
  };
  readonly warnings: readonly Warning[];
}

export interface QemuEnd {
  /** Null where a signal ended it. */
  readonly exitCode: number | null;
  readonly killedBy: NodeJS.Signals | null;
}

/** A machine that has been brought back. */
export interface ResumedMachine {
  readonly result: ResumeResult;
  /** When QEMU has ended, and its memory files and socket are removed; null at once if it has gone into the background. */
  readonly ended: Promise<QemuEnd | null>;
  /** Sends QEMU a signal. */
  kill(signal: NodeJS.Signals): void;
}
