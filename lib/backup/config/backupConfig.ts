/** What a configuration says, checked and filled in. Sizes are bytes, times seconds; docs/backup.md has the keys. */
import type { RetentionPolicy } from '../../store/storeTypes.js';
import type {
  AttachmentOption,
  CodecName,
  DetectorName,
  EncryptionOptions,
  KeySources,
  LayoutName,
  MachineOptions,
  RegionOption,
  SourceOptions,
} from '../../types.js';

export interface BackupConfig {
  readonly file: string;
  /** Jobs that run at a time. */
  readonly parallel: number;
  /** At least one, in the order of the file. */
  readonly jobs: readonly BackupJob[];
}

/** Where a job's memory comes from. */
export type BackupSource =
  /** A file, a device or a running machine (`qemu:SOCKET`, `libvirt:DOMAIN`); undefined: the regions name files. */
  | { readonly kind: 'source'; readonly source: string | undefined }
  /** The standard output of a program that must end with 0. */
  | { readonly kind: 'command'; readonly command: readonly string[]; readonly timeoutSeconds: number | undefined };

export interface BackupJob {
  readonly name: string;
  readonly source: BackupSource;
  readonly folder: string;
  /** As "{vm}-{utc}.vmsnap". */
  readonly nameTemplate: string;
  readonly machine: { readonly name: string; readonly uuid: string | undefined };
  readonly save: {
    readonly codec: CodecName | undefined;
    readonly level: number | undefined;
    readonly threads: number | undefined;
    readonly memoryLimitBytes: number | undefined;
    readonly writeBytesPerSecond: number | undefined;
    readonly detector: DetectorName | undefined;
    readonly layout: LayoutName | undefined;
    readonly regions: readonly RegionOption[] | undefined;
    readonly format: SourceOptions['format'];
    readonly vmstate: string | undefined;
    readonly diffBase: string | undefined;
    readonly segmentSize: number | undefined;
    readonly chunkSize: number | undefined;
    readonly frozen: boolean;
    /** Only of a source that is a running machine. */
    readonly machine: MachineOptions | undefined;
    readonly labels: ReadonlyMap<string, string>;
    readonly attachments: readonly AttachmentOption[];
  };
  /** Undefined: images are not encrypted. No secrets, only where they are. */
  readonly encryption: JobEncryption | undefined;
  /** Images in a chain: a full one, and then differential ones; 1: every image is full. */
  readonly fullEvery: number;
  /** Undefined: nothing is ever removed. */
  readonly retention: { readonly policy: RetentionPolicy; readonly timeZone: string | undefined } | undefined;
  readonly verify: boolean;
  readonly hooks: BackupHooks;
  readonly healthCheck: HealthCheck | undefined;
  readonly metricsFile: string | undefined;
}

export interface JobEncryption {
  readonly encryption: EncryptionOptions;
  /** What opens the images, as bases and to verify them; undefined: only their recipients can. */
  readonly keys: KeySources | undefined;
}

export interface BackupHooks {
  readonly before: readonly string[] | undefined;
  /** Once the memory has been read and the image is there, before it is verified. */
  readonly 'after-save': readonly string[] | undefined;
  readonly after: readonly string[] | undefined;
  readonly error: readonly string[] | undefined;
  readonly timeoutSeconds: number;
}

export interface HealthCheck {
  /** Where the address stands; it is a secret, and read only when it is needed. */
  readonly url:
    | { readonly kind: 'text'; readonly text: string }
    | { readonly kind: 'file'; readonly file: string }
    | { readonly kind: 'credential'; readonly name: string };
  readonly timeoutSeconds: number;
  readonly retries: number;
}
