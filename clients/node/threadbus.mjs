/**
 * A client of ThreadBus in one page: join a thread, follow it, post to it. README.md has the loop.
 * Fields are named as in the .proto files, enum values are strings, and 64-bit integers are plain
 * numbers: seqs stay below 2^53 by contract, so a double holds each of them exactly. (As strings
 * "9" would come after "10", and JSON takes no BigInt.)
 *
 * @typedef {{thread: string, after_seq: number, epoch?: string}} Cursor
 * @typedef {{thread: string, seq: number, epoch: string, sender: string, content: string,
 *   kind: string, mentions: string[], handoff_to: string, reply_to: number}} Message and so on
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

// Outside the checkout: `threadbus proto --out DIR`, then THREADBUS_PROTOS=DIR.
const { THREADBUS_PROTOS: out } = process.env;
const folder = (path) => fileURLToPath(new URL(path, import.meta.url));
const services = ['agent', 'bus', 'thread'].map((name) => `threadbus/v1/${name}_service.proto`);
/** @type {Record<string, any>} */
const types = loadSync([...services, 'google/rpc/status.proto', 'google/rpc/error_details.proto'], {
  includeDirs: out ? [out] : [folder('../../protos'), folder('../../third_party')],
  keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true,
  json: true, // unpacks the details of a google.rpc.Status
});
const methods = { ...types['threadbus.v1.AgentService'], ...types['threadbus.v1.BusService'],
  ...types['threadbus.v1.ThreadService'] };

const OPTIONS = {
  'grpc.keepalive_time_ms': 30_000, // by default never; the server allows a ping every 10 s
  'grpc.keepalive_timeout_ms': 10_000, // enough here; grpc-core's http2.ping_timeout_ms is unknown
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.max_receive_message_length': 16 * 1024 * 1024, // by default 4 MiB
  'grpc.initial_reconnect_backoff_ms': 250,
  'grpc.max_reconnect_backoff_ms': 5_000, // the default's 120 s would strand agents
  'grpc.use_local_subchannel_pool': 1, // so that a new channel is a new connection
};
const ATTEMPT = 10_000; // ms for one try of a call
const FIRST_FRAME = 20_000; // ms for a wait to connect and to say `started`
const NO_ANSWER = ['CANCELLED', 'UNKNOWN', 'DEADLINE_EXCEEDED', 'INTERNAL', 'UNAVAILABLE'];
const NOT_TWICE = ['CreateThread', 'SetThreadState', 'DeleteThread'];

const backoff = (failures) => Math.min(2_000, 50 * 2 ** failures) * (0.5 + Math.random() / 2);
const milliseconds = (duration) => (duration ? duration.seconds * 1e3 + duration.nanos / 1e6 : 0);
const asIs = (bytes) => bytes;

/** A refusal, whose `reason` errors.proto explains; or no answer, and `reason` is empty. */
export class BusError extends Error {
  constructor(failure) {
    const [bytes] = failure.metadata.get('grpc-status-details-bin');
    const status = bytes ? types['google.rpc.Status'].deserialize(bytes) : { details: [] };
    super(status.message || failure.details);
    const info = status.details.find((detail) => detail.domain === 'threadbus');
    this.name = 'BusError';
    this.code = grpc.status[failure.code];
    this.reason = info?.reason ?? '';
    this.metadata = info?.metadata ?? {};
    this.details = status.details; // BadRequest, ResourceInfo … each with its '@type'
    this.retryDelay = milliseconds(this.details.find((detail) => detail.retry_delay)?.retry_delay);
    this.retryable = info ? this.code === 'UNAVAILABLE' : NO_ANSWER.includes(this.code);
    /** Perhaps it was done: repeat a post with the same request_id, or not at all. */
    this.outcomeUnknown = info ? this.code === 'INTERNAL' : this.retryable;
  }
}

/** The cursor is of another history of the thread; follow(position.cursor) goes on. */
export class CursorLost extends Error {
  constructor({ reason, position, requested }) {
    super(`${reason}: ${requested.thread} is not what it was at ${requested.after_seq}`);
    Object.assign(this, { name: 'CursorLost', reason, position, requested });
  }
}

export class ThreadBus {
  #address; #token; #channel;

  /** @param {string} address HOST:PORT or unix:PATH  @param {{token?: string}} options */
  constructor(address, { token = '' } = {}) {
    this.#address = address;
    this.#token = token;
    this.#channel = this.#connect();
  }

  /** Calls as `agent` from now on; with the same token the next time, too. @param {string} agent */
  async register(agent, token = randomBytes(32).toString('base64url')) {
    await this.call('RegisterAgent', { agent, token }); // a token of our making: safe to repeat
    this.#token = token;
  }

  /** @param {string} thread  @param {object} [fields] of JoinThreadRequest */
  join(thread, fields) {
    return this.call('JoinThread', { thread, create: true, ...fields });
  }

  /** Posts once, however often it is sent. @param {string} thread  @param {string} content
   *  @param {object} [fields] of PostMessageRequest  @param {number} [timeout] ms */
  post(thread, content, fields, timeout) {
    const request = { thread, content, request_id: randomUUID(), ...fields };
    return this.call('PostMessage', request, timeout);
  }

  /** Tells what was read: the next join() goes on from there. @param {Message} message */
  markRead({ thread, seq, epoch }) {
    return this.call('Heartbeat', { read_cursors: [{ thread, after_seq: seq, epoch }] });
  }

  /** Any unary call, repeated while that is safe. Throws BusError.
   *  @param {string} method  @param {object} request  @returns {Promise<any>} */
  async call(method, request, timeout = 30_000) {
    const { path, responseDeserialize } = methods[method];
    const [bytes, until] = [encode(method, request), Date.now() + timeout];
    for (let failures = 0, doubt = false; ; failures++) {
      const channel = this.#channel;
      const unary = promisify(channel.makeUnaryRequest.bind(channel));
      const deadline = Math.min(until, Date.now() + ATTEMPT);
      try {
        return await unary(path, asIs, responseDeserialize, bytes, this.#metadata(), { deadline });
      } catch (failure) {
        const error = new BusError(failure);
        doubt ||= error.outcomeUnknown;
        error.outcomeUnknown ||= doubt && error.retryable;
        const pause = Math.max(backoff(failures), error.retryDelay);
        const again = error.retryable && (error.reason || !NOT_TWICE.includes(method));
        if (!again || Date.now() + pause >= until) throw error;
        if (error.code === 'DEADLINE_EXCEEDED') this.#renew(channel);
        await sleep(pause);
      }
    }
  }

  /** What comes after `cursor`, then what is posted, as it is posted: each message once, in order,
   *  across reconnects. Ends when the thread is closed; leave the loop or abort `signal` to stop.
   *  Throws CursorLost, and BusError for what coming again does not cure.
   *  @param {Cursor} cursor
   *  @param {{filter?: object, keepalive?: number, onResync?: 'throw' | 'continue',
   *    signal?: AbortSignal}} options `filter`: without { exclude_own: false } one's own messages
   *    are left out; `keepalive`: seconds between signs of life, a wish
   *  @returns {AsyncGenerator<Message>} */
  async *follow(cursor, { filter, keepalive, onResync = 'throw', signal } = {}) {
    const { path, responseDeserialize } = methods.WaitMessages;
    const request = { filter: { exclude_own: true, ...filter } };
    if (keepalive) request.keepalive_interval = { seconds: keepalive };
    for (let failures = 0; ; failures++) {
      signal?.throwIfAborted();
      const channel = this.#channel;
      const bytes = encode('WaitMessages', { ...request, threads: [cursor] });
      const call = channel.makeServerStreamRequest(path, asIs, responseDeserialize, bytes,
        this.#metadata({ waitForReady: true })); // unary calls tell why there is no connection
      const cancel = () => call.cancel();
      call.on('error', () => {}); // else one that nobody reads any more would end the process
      signal?.addEventListener('abort', cancel);
      let [patience, pause, ending] = [FIRST_FRAME, 0, ''];
      try {
        const frames = call[Symbol.asyncIterator]();
        while (true) {
          const watchdog = setTimeout(() => { cancel(); this.#renew(channel); }, patience);
          const { value: frame, done } = await frames.next().finally(() => clearTimeout(watchdog));
          if (done) break;
          if (frame.started) patience = 2.5 * milliseconds(frame.started.keepalive_interval);
          else failures = 0;
          if (frame.resync && onResync === 'throw') throw new CursorLost(frame.resync);
          const moved = frame.messages ?? frame.caught_up ?? frame.keepalive?.threads[0]
            ?? frame.resync?.position ?? frame.ending?.threads[0]; // a frame is one of these
          for (const message of frame.messages?.messages ?? []) {
            if (typeof message.kind === 'number') continue; // a kind of tomorrow
            yield { ...message, epoch: moved.cursor.epoch };
          }
          cursor = moved?.cursor ?? cursor;
          if (frame.ending) {
            ending = frame.ending.reason;
            [patience, pause] = [1_000, milliseconds(frame.ending.retry_delay)];
          }
        }
      } catch (failure) {
        signal?.throwIfAborted();
        if (!(failure.metadata instanceof grpc.Metadata)) throw failure;
        const error = new BusError(failure);
        const final = !error.retryable && error.code !== 'INTERNAL';
        if (final && !ending) throw error; // after `ending` nothing is a failure
        pause ||= error.retryDelay;
      } finally {
        signal?.removeEventListener('abort', cancel);
        cancel(); // leaving the iterator alone would leave the call open
      }
      if (ending === 'REASON_THREADS_CLOSED') return;
      await sleep(Math.max(backoff(failures), pause), undefined, { signal });
    }
  }

  close() {
    this.#channel.close();
  }

  #connect() {
    // Else http_proxy, https_proxy and grpc_proxy take even local calls to the proxy.
    const local = /^(127\.|localhost:|\[::1\]|unix:)/.test(this.#address);
    const options = { ...OPTIONS, 'grpc.enable_http_proxy': local ? 0 : 1 };
    return new grpc.Client(this.#address, grpc.credentials.createInsecure(), options);
  }

  /** grpc-js waits without end for a connection that was accepted and then says nothing. */
  #renew(silent) {
    if (this.#channel !== silent) return;
    silent.close(); // calls under way on it go on
    this.#channel = this.#connect();
  }

  #metadata(options = {}) {
    const metadata = new grpc.Metadata(options);
    if (this.#token) metadata.set('authorization', `Bearer ${this.#token}`);
    return metadata;
  }
}

function encode(method, request) {
  const { requestType, requestSerialize } = methods[method];
  const fields = requestType.type.field.map((field) => field.name);
  const unknown = Object.keys(request).find((name) => !fields.includes(name));
  if (unknown) throw new TypeError(`${method} has no field ${unknown}`); // else dropped in silence
  return requestSerialize(request);
}
