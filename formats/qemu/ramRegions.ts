/**
 * RAM blocks of a migration stream as regions of an image.
 *
 * A stream names blocks and tells no addresses. One block is the machine's main RAM: "pc.ram", "mach-virt.ram", or what the
 * user has called the memory backend. Where its name or the machine's tell which and how the machine lays it out, its
 * addresses are known; x86 machines split it at 4 GiB (machineLayout.ts). All other blocks (ROMs, video RAM, memory of
 * devices) have no known address.
 */
import type { QemuBlock, QemuHead } from '../../native/binding.js';
import { type MachineLayout, ramWindows } from '../machineLayout.js';
import { nameFault, type RegionManifest } from '../vmsnap/manifest.js';
import { corruptStream } from './fault.js';

/** A region is a stretch of a block. */
export interface BlockRegion extends RegionManifest {
  readonly sizeBytes: number;
  /** Index in the list of the stream. */
  readonly block: number;
  readonly blockOffset: number;
}

/** What follows the name of the second part of a block that is split. */
export const ABOVE_4G = '-above-4g';

/** The name of the block that a region is a stretch of. */
export function blockNameOf({ name, blockOffset }: { readonly name: string; readonly blockOffset: number }): string {
  return blockOffset > 0 ? name.slice(0, -ABOVE_4G.length) : name;
}

const VIRT_RAM_START = 2 ** 30;

/** `isLeftOut`: blocks of which the stream has no pages because it was told to leave them out. */
export function blockRegions(head: QemuHead, path: string, isLeftOut: (block: number) => boolean): BlockRegion[] {
  const names = head.blocks.map((block) => blockName(block, path));
  const windows = mainWindows(head, names);
  const regions: BlockRegion[] = [];
  for (const [block, { usedBytes }] of head.blocks.entries()) {
    if (usedBytes === 0 || isLeftOut(block)) continue;
    const name = names[block]!;
    if (windows?.block !== block) {
      regions.push({ name, gpa: undefined, sizeBytes: usedBytes, block, blockOffset: 0 });
      continue;
    }
    let blockOffset = 0;
    for (const [i, [gpa, end]] of windows.windows.entries()) {
      const sizeBytes = Math.min(usedBytes - blockOffset, end - gpa);
      if (sizeBytes <= 0) break;
      regions.push({ name: i === 0 ? name : name + ABOVE_4G, gpa, sizeBytes, block, blockOffset });
      blockOffset += sizeBytes;
    }
  }
  return regions;
}

function blockName({ id, listedAt }: QemuBlock, path: string): string {
  const name = Buffer.from(id).toString();
  const fault = Buffer.from(name).equals(id) ? nameFault(name) : 'is no valid UTF-8';
  if (fault !== undefined) throw corruptStream(path, listedAt, `the name of a RAM block ${fault}`);
  return name;
}

interface MainWindows {
  readonly block: number;
  readonly windows: readonly (readonly [number, number])[];
}

function mainWindows(head: QemuHead, names: readonly string[]): MainWindows | undefined {
  const machine = Buffer.from(head.machine).toString();
  const virt = names.indexOf('mach-virt.ram');
  if (virt >= 0) return { block: virt, windows: [[VIRT_RAM_START, Number.POSITIVE_INFINITY]] };
  const layout = layoutOf(machine);
  const block = mainBlock(names);
  if (layout === undefined || block === undefined) return undefined;
  const windows = ramWindows(layout, head.blocks[block]!.usedBytes);
  // The name of the second part must be free.
  if (windows.length > 1 && names.includes(names[block]! + ABOVE_4G)) return undefined;
  return { block, windows };
}

/** "pc-q35-7.2", "pc-i440fx-10.0", and the machines of distributions that are named after them. */
function layoutOf(machine: string): MachineLayout | undefined {
  if (/(^|-)q35(-|$)/.test(machine)) return 'pc-q35';
  return /(^|-)i440fx(-|$)/.test(machine) ? 'pc-i440fx' : undefined;
}

/** Blocks of devices have a dot or a slash in their names ("vga.vram", "/rom@etc/acpi/tables"), those of backends rarely. */
function mainBlock(names: readonly string[]): number | undefined {
  const named = names.indexOf('pc.ram');
  if (named >= 0) return named;
  const backends = names.flatMap((name, block) => (/[./]/.test(name.replace(/^\/objects\//, '')) ? [] : [block]));
  // Several: NUMA nodes or plugged modules, whose order nobody tells.
  return backends.length === 1 ? backends[0] : undefined;
}
