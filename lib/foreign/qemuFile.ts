/** Migration streams in files, by themselves and in libvirt's save images: a worker thread finds their pages first. */
import { closeSync } from 'node:fs';
import { readSaveImage, saveImageMemory } from '../../formats/libvirt/saveImage.js';
import type { MemoryFile } from '../../formats/memoryFile.js';
import { type IndexedStream, indexedQemuMemory } from '../../formats/qemu/openStream.js';
import { createSpillFile } from '../../formats/spillFile.js';
import { reportProgress } from '../progress.js';
import type { SourceOptions } from '../types.js';
import type { ForeignFile } from './recognise.js';
import { runAlone } from './runAlone.js';

/** `offset`: where in the file the stream begins. */
export async function openQemuFile(file: ForeignFile, options: SourceOptions, offset = 0): Promise<MemoryFile> {
  const table = createSpillFile();
  let endReports = () => {};
  try {
    const indexed = await runAlone<IndexedStream>(options.signal, (control) => {
      endReports = reportProgress('index', control, file.sizeBytes - offset, options);
      return { kind: 'qemuIndex', control, file, offset, table };
    });
    return indexedQemuMemory(file, indexed, table);
  } catch (error) {
    closeSync(table.fd);
    throw error;
  } finally {
    endReports();
  }
}

/** One whose stream is not compressed. (What is compressed must be read from front to back: lib/source.ts.) */
export async function openLibvirtFile(file: ForeignFile, options: SourceOptions): Promise<MemoryFile> {
  const image = readSaveImage(file);
  return saveImageMemory(image, await openQemuFile(file, options, image.streamOffset));
}
