/**
 * A small client of ThreadBus: join a thread, follow it, post to it. docs/clients.md has the loop.
 * Messages are the plain objects of the generated stubs in gen/. 64-bit integers are numbers: seqs
 * stay below 2^53 by contract, so a double holds each of them exactly.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { AgentServiceService, EndSessionRequest, RegisterAgentRequest }
  from '../gen/threadbus/v1/agent_service.js';
import {
  BusServiceService, type DeepPartial, PostMessageRequest, type PostMessageResponse,
  WaitEnding_Reason, WaitMessagesRequest,
} from '../gen/threadbus/v1/bus_service.js';
import { Cursor, type Message, type MessageFilter, MessageKind }
  from '../gen/threadbus/v1/message.js';
import { JoinThreadRequest, type JoinThreadResponse, ThreadServiceService }
  from '../gen/threadbus/v1/thread_service.js';
import { Connection, isFailure, type Method } from './connection.js';
import { BusError, CursorLost } from './errors.js';
import { Heartbeats } from './heartbeats.js';
import { backoff, milliseconds } from './time.js';

export { BusError, CursorLost, type Code, type Detail } from './errors.js';
export { clientOptions, type Method } from './connection.js';

/** A place in a thread; without an epoch it is not checked that the history is still that one. */
export type Position = Omit<Cursor, 'epoch'> & { epoch?: string };
/** A message, and the epoch that its seq counts in. */
export type Followed = Message & { epoch: string };

export interface CallOptions {
  /** Milliseconds for all attempts; 30 s by default. */
  timeout?: number;
  signal?: AbortSignal;
}

export interface FollowOptions {
  /** Without `{ excludeOwn: false }` one's own messages are left out. */
  filter?: DeepPartial<MessageFilter>;
  /** Seconds between signs of life of the server, a wish. */
  keepalive?: number;
  /** Whether a cursor of another history is thrown as CursorLost, as by default. */
  onResync?: 'throw' | 'continue';
  signal?: AbortSignal;
}

const ATTEMPT = 10_000; // ms for one try of a call
const HEARTBEAT = 5_000; // ms until a heartbeat is left to the next one
const FIRST_FRAME = 20_000; // ms for a wait to connect and to say `started`
const LAST_STATUS = 1_000; // ms for the status after `ending`
const { createThread, deleteThread, setThreadState } = ThreadServiceService;
const NOT_TWICE: string[] = [createThread, deleteThread, setThreadState,
  AgentServiceService.rotateToken].map(({ path }) => path);
const { REASON_SESSION_ENDED, REASON_THREADS_CLOSED } = WaitEnding_Reason;

export class ThreadBus {
  readonly #connection: Connection;
  readonly #closing = new AbortController();
  readonly #heartbeats = new Heartbeats((request) =>
    this.call(BusServiceService.heartbeat, request, { timeout: HEARTBEAT }));

  /** `address` is HOST:PORT or unix:PATH; `token` that of an agent which is registered. */
  constructor(address: string, { token = '' }: { token?: string } = {}) {
    this.#connection = new Connection(address, token);
    setMaxListeners(0, this.#closing.signal); // each call listens
  }

  /** Calls as `agent` from now on, with the same token the next time, too; sends heartbeats. */
  async register(agent: string, token = randomBytes(32).toString('base64url')): Promise<void> {
    // A token of our making: safe to repeat.
    const request = RegisterAgentRequest.create({ agent, token });
    await this.call(AgentServiceService.registerAgent, request);
    this.#connection.token = token;
    this.#heartbeats.start();
  }

  /** Enters a thread, which is made if need be; `cursor` is where to follow it from. */
  async join(
    thread: string, fields: DeepPartial<JoinThreadRequest> = {}, options?: CallOptions,
  ): Promise<JoinThreadResponse & { cursor: Cursor }> {
    const request = JoinThreadRequest.create({ create: true, ...fields, thread });
    const response = await this.call(ThreadServiceService.joinThread, request, options);
    return { ...response, cursor: response.cursor! };
  }

  /** Posts once, however often it is sent. */
  async post(
    thread: string, content: string, fields: DeepPartial<PostMessageRequest> = {},
    options?: CallOptions,
  ): Promise<PostMessageResponse> {
    const request = PostMessageRequest.create({ ...fields, thread, content });
    request.requestId ||= randomUUID();
    return this.call(BusServiceService.postMessage, request, options);
  }

  /** Tells what was read, a message or a cursor: the next join() goes on from there. */
  markRead(at: Followed | Cursor): Promise<void> {
    const { thread, epoch } = at;
    return this.#heartbeats.read({ thread, epoch, afterSeq: 'seq' in at ? at.seq : at.afterSeq });
  }

  /** Says goodbye: the agent is offline, its waits end, and no heartbeat brings it back. */
  async goodbye(options?: CallOptions): Promise<void> {
    await this.#heartbeats.stop();
    await this.call(AgentServiceService.endSession, EndSessionRequest.create(), options);
  }

  /** Ends all that runs: a follow() as if its thread were closed; calls fail, done or not. */
  close(): void {
    this.#closing.abort(new Error('the client was closed'));
    void this.#heartbeats.stop();
    this.#connection.close();
  }

  /**
   * Any unary method of the stubs, repeated while that is safe; a PostMessage needs a requestId
   * for that, which post() gives it. Throws BusError.
   */
  async call<Request, Response>(
    method: Method<Request, Response>, request: Request,
    { timeout = 30_000, signal }: CallOptions = {},
  ): Promise<Response> {
    const stop = this.#stop(signal);
    const [bytes, until] = [method.requestSerialize(request), Date.now() + timeout];
    for (let failures = 0, doubt = false; ; failures++) {
      stop.throwIfAborted();
      try {
        const deadline = Math.min(until, Date.now() + ATTEMPT);
        return await this.#connection.unary(method, bytes, deadline, stop);
      } catch (failure) {
        stop.throwIfAborted();
        if (!isFailure(failure)) throw failure;
        const error = new BusError(failure);
        doubt ||= error.outcomeUnknown;
        error.outcomeUnknown ||= doubt && error.retryable;
        const pause = Math.max(backoff(failures), error.retryDelay);
        const again = error.retryable && (error.reason || !NOT_TWICE.includes(method.path));
        if (!again || Date.now() + pause >= until) throw error;
        await sleep(pause, undefined, { signal: stop }).catch(() => {});
      }
    }
  }

  /**
   * What comes after `cursor`, then what is posted, as it is posted: each message once, in order,
   * across reconnects. Ends when the thread is closed or the agent said goodbye; leave the loop or
   * abort `signal` to stop. Throws CursorLost, and BusError for what coming again does not cure.
   */
  async *follow(
    cursor: Position, { filter, keepalive, onResync = 'throw', signal }: FollowOptions = {},
  ): AsyncGenerator<Followed, void, undefined> {
    const stop = this.#stop(signal);
    const request = WaitMessagesRequest.create({ filter: { excludeOwn: true, ...filter } });
    if (keepalive) {
      const seconds = Math.floor(keepalive);
      request.keepaliveInterval = { seconds, nanos: Math.round((keepalive - seconds) * 1e9) };
    }
    for (let failures = 0; ; failures++) {
      if (this.#ended(signal)) return;
      request.threads = [Cursor.create(cursor)];
      const { waitMessages } = BusServiceService;
      const bytes = waitMessages.requestSerialize(request);
      const { frames, cancel, lost } = this.#connection.stream(waitMessages, bytes);
      stop.addEventListener('abort', cancel);
      let [patience, pause, ending] = [FIRST_FRAME, 0, WaitEnding_Reason.REASON_UNSPECIFIED];
      try {
        while (true) {
          const watchdog = setTimeout(lost, patience);
          const { value: frame, done } = await frames.next().finally(() => clearTimeout(watchdog));
          if (done) break;
          if (frame.started) patience = 2.5 * milliseconds(frame.started.keepaliveInterval);
          else failures = 0;
          if (frame.resync && onResync === 'throw') throw new CursorLost(frame.resync);
          const moved = frame.messages ?? frame.caughtUp ?? frame.keepalive?.threads[0]
            ?? frame.resync?.position ?? frame.ending?.threads[0]; // a frame is one of these
          for (const message of frame.messages?.messages ?? []) {
            if (!(message.kind in MessageKind)) continue; // a kind of tomorrow
            yield { ...message, epoch: moved?.cursor?.epoch ?? '' };
          }
          cursor = moved?.cursor ?? cursor;
          if (frame.ending) {
            ending = frame.ending.reason;
            [patience, pause] = [LAST_STATUS, milliseconds(frame.ending.retryDelay)];
          }
        }
      } catch (failure) {
        if (!isFailure(failure)) throw failure;
        if (this.#ended(signal)) return;
        const error = new BusError(failure);
        const final = !error.retryable && error.code !== 'INTERNAL';
        if (final && !ending) throw error; // after `ending` nothing is a failure
        pause ||= error.retryDelay;
      } finally {
        stop.removeEventListener('abort', cancel);
        cancel(); // leaving the iterator alone would leave the call open
      }
      if (ending === REASON_THREADS_CLOSED || ending === REASON_SESSION_ENDED) return;
      pause = Math.max(backoff(failures), pause);
      await sleep(pause, undefined, { signal: stop }).catch(() => {});
    }
  }

  /** What ends a call early: its own signal, and close(). */
  #stop(signal: AbortSignal | undefined): AbortSignal {
    return signal ? AbortSignal.any([signal, this.#closing.signal]) : this.#closing.signal;
  }

  /** Whether the client was closed. Throws when it is `signal` that was aborted. */
  #ended(signal: AbortSignal | undefined): boolean {
    signal?.throwIfAborted();
    return this.#closing.signal.aborted;
  }
}
