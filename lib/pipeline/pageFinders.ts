/** Which PageFinder belongs to which kind of PageSource. Each thread makes one of its own. */
import { AVML_PAGES, AvmlFinder, type AvmlPages } from '../../formats/avml/avmlPages.js';
import { FirecrackerDiffFinder, type FirecrackerDiffPages } from '../../formats/firecracker/diffFinder.js';
import { KDUMP_PAGES, KdumpFinder, type KdumpPages } from '../../formats/kdump/kdumpPages.js';
import type { PageFinder, PageSource } from '../../formats/memoryFile.js';
import { MachineStreamFinder, type MachineStreamPages } from '../../formats/qemu/machineStream.js';
import { MappedRamFinder, type MappedRamPages } from '../../formats/qemu/mappedRamPages.js';
import { QemuStreamFinder, type QemuStreamPages } from '../../formats/qemu/streamPages.js';
import { RANGE_PAGES, RangeFinder, type RangePages } from '../../formats/ranges/rangePages.js';

const MAKERS: Readonly<Record<string, (pages: PageSource) => PageFinder>> = {
  [RANGE_PAGES]: (pages) => new RangeFinder(pages as RangePages),
  [AVML_PAGES]: (pages) => new AvmlFinder(pages as AvmlPages),
  [KDUMP_PAGES]: (pages) => new KdumpFinder(pages as KdumpPages),
  'firecracker-diff': (pages) => new FirecrackerDiffFinder(pages as FirecrackerDiffPages),
  'qemu-stream': (pages) => new QemuStreamFinder(pages as QemuStreamPages),
  'qemu-machine': (pages) => new MachineStreamFinder(pages as MachineStreamPages),
  'qemu-mapped-ram': (pages) => new MappedRamFinder(pages as MappedRamPages),
};

export function createPageFinder(pages: PageSource): PageFinder {
  const make = Object.hasOwn(MAKERS, pages.kind) ? MAKERS[pages.kind] : undefined;
  if (make === undefined) throw new Error(`there is no page finder for "${pages.kind}"`);
  return make(pages);
}
