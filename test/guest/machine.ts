import { join } from 'node:path';
import { writeGeneratedMemory } from './generated-memory.js';
import { bootGuest, type Guest, guestAvailability } from './guest.js';
import { writeProcessMemory } from './process-memory.js';

export type MachineKind = 'guest' | 'process' | 'generated';

/** The memory that the demonstration saves, and where it comes from. */
export interface Machine {
  description: string;
  memoryFile: string;
  /** The VM that the memory belongs to, paused; only a guest has one. */
  guest?: Guest;
}

const GENERATED_MIB = 256;

/** The most real machine that this computer has to offer: a guest, else a process, else a made-up one. */
export async function findMachine(folder: string, memoryMiB: number, wanted?: MachineKind): Promise<Machine> {
  if (wanted !== undefined) return makeMachine(wanted, folder, memoryMiB);
  const availability = guestAvailability();
  if (availability.available) return makeMachine('guest', folder, memoryMiB);
  const why = `(no guest: ${availability.reason})`;
  try {
    return explained(await makeMachine('process', folder, memoryMiB), why);
  } catch (error) {
    return explained(await makeMachine('generated', folder, memoryMiB), `${why} (no process: ${error})`);
  }
}

async function makeMachine(kind: MachineKind, folder: string, memoryMiB: number): Promise<Machine> {
  const memoryFile = join(folder, 'memory');
  if (kind === 'guest') return pausedGuest(folder, memoryMiB);
  if (kind === 'process') {
    await writeProcessMemory(memoryFile);
    return { description: 'the memory of a Node process, copied', memoryFile };
  }
  writeGeneratedMemory(memoryFile, GENERATED_MIB);
  return { description: 'a made-up machine', memoryFile };
}

async function pausedGuest(folder: string, memoryMiB: number): Promise<Machine> {
  const guest = await bootGuest({ memoryMiB, folder });
  try {
    await guest.stop();
  } catch (error) {
    await guest.close();
    throw error;
  }
  const accelerator = guest.accelerator.toUpperCase();
  const description = `a Linux guest in QEMU ${guest.qemuVersion} (${accelerator}), booted, filled and paused`;
  return { description, memoryFile: guest.memoryFile, guest };
}

function explained(machine: Machine, why: string): Machine {
  return { ...machine, description: `${machine.description} ${why}` };
}
