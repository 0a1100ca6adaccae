/** The report as JSON: complete, bytes as integers, null for what is unknown (docs/scripting.md, docs/schema/inspect.json). */
import type { ChainReport, HeatCell, InspectRegion, InspectReport } from '../../lib/index.js';
import { isStream } from './trust.js';

export function reportJson(report: InspectReport): object {
  const { format, machine, source } = report;
  return {
    schema: 'vmsnap.inspect',
    schemaVersion: 1,
    image: {
      path: report.path,
      fileBytes: isStream(report) ? null : report.fileBytes,
      allocatedBytes: report.allocatedBytes ?? null,
      complete: report.complete,
      trustedBytes: report.trustedBytes,
      identity: report.identity ?? null,
      tool: report.tool,
      createdAt: report.createdAt,
    },
    format: {
      readVersion: format.readVersion,
      writeVersion: format.writeVersion,
      compatibleFeatures: [...format.compatibleFeatures],
      incompatibleFeatures: [...format.incompatibleFeatures],
      alignmentBytes: format.alignmentBytes,
    },
    machine: { name: machine.name ?? null, uuid: machine.uuid ?? null },
    qemu: report.qemu ?? null,
    labels: Object.fromEntries(report.labels),
    source: { kind: source.kind, name: source.name ?? null, mayHaveChanged: source.mayHaveChanged ?? null },
    memory: memoryJson(report.memory),
    storage: storageJson(report.storage),
    encryption:
      report.encryption === undefined
        ? null
        : { opened: report.encryption.opened, recipients: [...report.encryption.recipients] },
    base: report.base === undefined ? null : { identity: report.base.identity, fileName: report.base.fileName },
    chain: report.chain === undefined ? null : chainJson(report.chain),
    attachments: report.attachments?.map(({ name, sizeBytes }) => ({ name, sizeBytes })) ?? null,
    heat: report.heat?.map(heatJson) ?? null,
    problems: report.problems.map(({ code, offset, message }) => ({ code, offset: offset ?? null, message })),
  };
}

function memoryJson(memory: InspectReport['memory']): object {
  const { pages } = memory;
  return {
    sizeBytes: memory.sizeBytes ?? null,
    pageSize: memory.pageSize,
    segmentSize: memory.segmentSize,
    segments: memory.segments ?? null,
    digest: memory.digest ?? null,
    pages:
      pages === undefined
        ? null
        : {
            zero: pages.zero,
            data: pages.data,
            uniform: pages.uniform,
            reference: pages.reference,
            sameAsBase: pages.sameAsBase,
            absent: pages.absent,
          },
    regions: memory.regions.map(regionJson),
  };
}

export function regionJson(region: InspectRegion): object {
  return {
    name: region.name,
    gpa: region.gpa ?? null,
    sizeBytes: region.sizeBytes ?? null,
    sum: region.sum ?? null,
    dataPages: region.dataPages ?? null,
    uniformPages: region.uniformPages ?? null,
    referencePages: region.referencePages ?? null,
    absentPages: region.absentPages ?? null,
    storedBytes: region.storedBytes ?? null,
  };
}

function storageJson(storage: InspectReport['storage']): object {
  return {
    codec: storage.codec,
    level: storage.level ?? null,
    chunkSize: storage.chunkSize,
    chunks: storage.chunks ?? null,
    rawChunks: storage.rawChunks ?? null,
    storedBytes: storage.storedBytes ?? null,
    dataRatio: storage.dataRatio ?? null,
    memoryRatio: storage.memoryRatio ?? null,
    indexBytes: storage.indexBytes ?? null,
    records: storage.records ?? null,
  };
}

function chainJson({ complete, problem, images }: ChainReport): object {
  return {
    complete,
    problem:
      problem === undefined
        ? null
        : { code: problem.code, path: problem.path ?? null, message: problem.message, hint: problem.hint ?? null },
    images: images.map(({ path, identity, fileBytes, restoreChunks, restoreBytes }) => ({
      path,
      identity,
      fileBytes,
      restoreChunks: restoreChunks ?? null,
      restoreBytes: restoreBytes ?? null,
    })),
  };
}

function heatJson({ pages, dataPages, uniformPages, referencePages, absentPages, storedBytes }: HeatCell): object {
  return { pages, dataPages, uniformPages, referencePages, absentPages, storedBytes };
}
