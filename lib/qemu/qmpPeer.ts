/** A QEMU that takes commands: through its own socket (qmpSocket.ts) or through somebody who holds it. */
import { VmsnapError } from '../../native/errors.js';

export interface QmpEvent {
  readonly name: string;
  readonly data: unknown;
}

export interface QmpPeer {
  /** How messages call it: a socket, a domain. */
  readonly path: string;
  /** "7.2.19" */
  readonly qemuVersion: string;
  /**
   * @returns what QEMU returns; the caller checks its shape.
   * @throws QmpRefusal where QEMU says no; GUEST where it is lost or late.
   */
  execute(command: string, args?: Record<string, unknown>, limitSeconds?: number): Promise<unknown>;
  close(): void;
}

/** QEMU's own words. */
export class QmpRefusal extends VmsnapError {
  readonly command: string;
  /** "CommandNotFound", "GenericError", ... */
  readonly qmpClass: string;

  constructor(path: string, command: string, qmpClass: string, description: string) {
    super('GUEST', `QEMU on ${path} refused ${command}: ${description}`, { path });
    this.command = command;
    this.qmpClass = qmpClass;
  }
}
