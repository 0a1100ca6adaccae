/**
 * The words that options take, for the command line and the configuration of backup jobs. Imports nothing at run time, so that a
 * wrong command line need not load the library.
 */
import type { CodecName, DetectorName, LayoutName, SourceOptions } from './types.js';

export const CODECS = ['zstd', 'zlib', 'none'] as const satisfies readonly CodecName[];
export const DETECTORS = [
  'auto',
  'dsa',
  'dsa-emulated',
  'avx2',
  'neon',
  'scalar',
] as const satisfies readonly DetectorName[];
export const LAYOUTS = ['flat', 'pc-q35', 'pc-i440fx', 'firecracker-x86'] as const satisfies readonly LayoutName[];
/** What a source is taken for. */
export const FORMATS = [
  'auto',
  'raw',
  'qemu-stream',
  'qemu-mapped-ram',
  'libvirt-save',
  'elf-core',
  'kdump',
  'lime',
  'avml',
  'firecracker',
  'cloud-hypervisor',
] as const satisfies readonly SourceOptions['format'][];
