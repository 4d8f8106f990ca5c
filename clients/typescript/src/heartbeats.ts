/** Says that the agent is alive and what it has read, at the interval that the server asks for. */
import { setTimeout as sleep } from 'node:timers/promises';
import { HeartbeatRequest, type HeartbeatResponse } from '../gen/threadbus/v1/bus_service.js';
import type { Cursor } from '../gen/threadbus/v1/message.js';
import { BusError } from './errors.js';
import { backoff, milliseconds } from './time.js';

const INTERVAL = 40_000; // ms, when the server does not say

export class Heartbeats {
  readonly #send: (request: HeartbeatRequest) => Promise<HeartbeatResponse>;
  readonly #unsaid = new Map<string, Cursor>();
  #running: { stop: AbortController; done: Promise<void> } | undefined;

  constructor(send: (request: HeartbeatRequest) => Promise<HeartbeatResponse>) {
    this.#send = send;
  }

  start(): void {
    if (this.#running) return;
    const stop = new AbortController();
    this.#running = { stop, done: this.#run(stop.signal) };
  }

  /** Makes no more; one under way is waited for, else it could take back a goodbye. */
  async stop(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    running?.stop.abort();
    await running?.done;
  }

  /** Says at once that everything up to `cursor` was read; if that fails, the next one says it. */
  async read(cursor: Cursor): Promise<void> {
    this.#unsaid.set(cursor.thread, cursor);
    await this.#beat();
  }

  async #beat(): Promise<HeartbeatResponse> {
    const readCursors = [...this.#unsaid.values()].slice(0, 1_000); // the contract's limit
    let said = true;
    try {
      return await this.#send(HeartbeatRequest.create({ readCursors }));
    } catch (error) {
      said = error instanceof BusError && !error.retryable; // refused, as it would be for ever
      throw error;
    } finally {
      for (const cursor of said ? readCursors : []) {
        if (this.#unsaid.get(cursor.thread) === cursor) this.#unsaid.delete(cursor.thread);
      }
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted;) {
      let pause: number;
      try {
        pause = milliseconds((await this.#beat()).heartbeatInterval) || INTERVAL;
        failures = 0;
      } catch {
        pause = 10 * backoff(failures++); // 0.25 s at least, up to 20 s
      }
      // A program that has nothing else to do may end.
      await sleep(pause, undefined, { ref: false, signal }).catch(() => {});
    }
  }
}
