/**
 * What an image of a QEMU machine knows of it beside its memory: the attachment "machine.json".
 *
 * Together with the attachments "qemu-head" and "qemu-tail" (formats/qemu/openStream.ts) it is all that is needed to bring the
 * machine back. Regions whose contents were in the stream go back through a stream (formats/qemu/streamFrame.ts); those of
 * shared memory files were left out of it (x-ignore-shared) and go back as files.
 */
export const MACHINE_ATTACHMENT = 'machine.json';
export const MACHINE_SCHEMA = 'vmsnap.machine';
export const MACHINE_SCHEMA_VERSION = 1;

export interface MachineDescription {
  readonly schema: typeof MACHINE_SCHEMA;
  readonly schemaVersion: typeof MACHINE_SCHEMA_VERSION;
  /** "7.2.19" */
  readonly qemuVersion: string;
  /** "pc-q35-7.2" */
  readonly machineType: string;
  readonly name: string | null;
  readonly uuid: string | null;
  /** RunState of QEMU (qapi/run-state.json) when it was found. */
  readonly foundStatus: string;
  readonly memoryBytes: number;
  /** Those of the image, in its order. */
  readonly regions: readonly MachineRegion[];
  readonly disks: readonly MachineDisk[];
  /** File systems that the guest agent held still when the memory was taken: resumed, the guest must be told to go on with them. */
  readonly frozenFileSystems: number | null;
  /** Of the QEMU process, where it could be read. */
  readonly commandLine: readonly string[] | null;
  /** Answers of QEMU to query commands, by command, for whoever needs more. */
  readonly queries: Readonly<Record<string, unknown>>;
}

export interface MachineRegion {
  /** Name of the region in the image. */
  readonly region: string;
  /** Name of the RAM block in the stream. */
  readonly block: string;
  readonly blockOffset: number;
  readonly sizeBytes: number;
  readonly gpa: number | null;
  /** "file": left out of the stream, read from the backend's file. */
  readonly contents: 'stream' | 'file';
  /** The memory backend of the block; null: it has none (ROMs, video RAM, plain -m of old machine types). */
  readonly backend: MachineBackend | null;
}

export interface MachineBackend {
  /** The id of its -object. */
  readonly id: string;
  /** "memory-backend-file", "memory-backend-memfd", "memory-backend-ram" */
  readonly type: string;
  readonly share: boolean;
  /** Its file, where it has a name. */
  readonly path: string | null;
}

/** A block node that the machine may write. */
export interface MachineDisk {
  /** QEMU's node-name. */
  readonly node: string;
  /** Id or QOM path of the device that uses it. */
  readonly device: string | null;
  readonly driver: string;
  readonly file: string | null;
  /** Of the file as it was when the machine was stopped, after what ran while it was paused. Null: no file, or not readable. */
  readonly sizeBytes: number | null;
  /** Nanoseconds since 1970, as a decimal number. */
  readonly mtimeNanoseconds: string | null;
  /** Names of the snapshots inside of it. */
  readonly snapshots: readonly string[];
}
