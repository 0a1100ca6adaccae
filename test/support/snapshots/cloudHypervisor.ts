/** Makes what Cloud Hypervisor writes: the folder of a snapshot. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Range {
  readonly gpa: number;
  readonly length: number;
}

/** Where versions have put the list of memory ranges in state.json. */
export const STATE_SHAPES: Readonly<Record<string, (ranges: readonly Range[]) => unknown>> = {
  'a table in a string': (ranges) => ({
    id: 'vm',
    snapshots: {
      'memory-manager': {
        id: 'memory-manager',
        snapshot_data: { state: JSON.stringify({ memory_ranges: { data: ranges }, guest_ram_mappings: [] }) },
      },
      'cpu-manager': { snapshot_data: { state: JSON.stringify({ vcpus: [1, 2, 3] }) } },
    },
  }),
  'a table in an object': (ranges) => ({
    snapshots: { 'memory-manager': { snapshot_data: { memory_ranges: { data: ranges } } } },
  }),
  'a bare list': (ranges) => ({ memory_manager_data: { memory_ranges: ranges }, cpus: [{ id: 0 }] }),
};

export const UUID = '6a3f1c52-08d7-4f7b-9c1e-2b64d8a0e913';

export function writeSnapshot(folder: string, state: unknown, memory: Buffer | undefined): string {
  mkdirSync(folder, { recursive: true });
  const config = { cpus: { boot_vcpus: 4, max_vcpus: 4 }, memory: { size: 0 }, platform: { uuid: UUID } };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  writeFileSync(join(folder, 'state.json'), typeof state === 'string' ? state : JSON.stringify(state));
  if (memory !== undefined) writeFileSync(join(folder, 'memory-ranges'), memory);
  return folder;
}
