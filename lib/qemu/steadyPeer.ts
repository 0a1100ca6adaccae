/**
 * A QEMU whose connection may be lost: it is made again for some seconds, and what may be said twice is said again. What may
 * not (migrate, quit) fails, and who asked finds out what became of it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { VmsnapError } from '../../native/errors.js';
import { type LiveAddress, openPeer } from './liveAddress.js';
import { type QmpPeer, QmpRefusal } from './qmpPeer.js';

const RETRY_MS = 200;
const REPEATABLE = /^(query-|qom-get$|cont$|stop$|migrate_cancel$|migrate-set-)/;

export interface PeerLimits {
  /** How long QEMU may take for an answer. */
  readonly answerSeconds: number;
  /** How long a lost connection is made again. */
  readonly reconnectSeconds: number;
}

export class SteadyPeer implements QmpPeer {
  readonly #address: LiveAddress;
  readonly #limits: PeerLimits;
  #peer: QmpPeer;
  #isLost = false;
  #reconnecting: Promise<void> | undefined;

  private constructor(address: LiveAddress, limits: PeerLimits, peer: QmpPeer) {
    this.#address = address;
    this.#limits = limits;
    this.#peer = peer;
  }

  static async open(address: LiveAddress, limits: PeerLimits, signal?: AbortSignal): Promise<SteadyPeer> {
    return new SteadyPeer(address, limits, await openPeer(address, limits.answerSeconds, signal));
  }

  get path(): string {
    return this.#peer.path;
  }

  get qemuVersion(): string {
    return this.#peer.qemuVersion;
  }

  async execute(
    command: string,
    args?: Record<string, unknown>,
    limitSeconds = this.#limits.answerSeconds,
  ): Promise<unknown> {
    try {
      if (this.#isLost) await this.#reconnect();
      return await this.#peer.execute(command, args, limitSeconds);
    } catch (error) {
      if (error instanceof QmpRefusal) throw error;
      this.#isLost = true;
      if (!REPEATABLE.test(command)) throw error;
    }
    await this.#reconnect();
    return await this.#peer.execute(command, args, limitSeconds);
  }

  /** Through the connection that there is, and not again: for what may go without an answer. */
  executeOnce(command: string, limitSeconds: number): Promise<unknown> {
    return this.#peer.execute(command, undefined, limitSeconds);
  }

  close(): void {
    this.#peer.close();
  }

  #reconnect(): Promise<void> {
    this.#reconnecting ??= this.#tryToReconnect().finally(() => {
      this.#reconnecting = undefined;
    });
    return this.#reconnecting;
  }

  async #tryToReconnect(): Promise<void> {
    if (!this.#isLost) return;
    // Who is silent is asked through a connection of its own: QEMU takes one at a time.
    this.#peer.close();
    const deadline = performance.now() + this.#limits.reconnectSeconds * 1000;
    for (;;) {
      try {
        this.#peer = await openPeer(this.#address, this.#limits.answerSeconds);
        this.#isLost = false;
        return;
      } catch (error) {
        if (performance.now() < deadline) {
          await sleep(RETRY_MS);
          continue;
        }
        throw new VmsnapError('GUEST', `${(error as Error).message}; tried for ${this.#limits.reconnectSeconds} s`, {
          path: this.path,
          cause: error,
        });
      }
    }
  }
}
