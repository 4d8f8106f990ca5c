/**
 * A small client of ThreadBus: join a thread, follow it, post to it. docs/clients.md has the loop.
 * Messages are plain objects of the generated stubs in gen/. 64-bit integers are numbers: seqs are
 * below 2^53 by contract, and exact in a double.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { AgentServiceService, EndSessionRequest, RegisterAgentRequest }
  from '../gen/threadbus/v1/agent_service.js';
import {
  BusServiceService, type DeepPartial, GetServerInfoRequest, HeartbeatRequest, PostMessageRequest,
  type PostMessageResponse, WaitEnding_Reason, WaitMessagesRequest,
} from '../gen/threadbus/v1/bus_service.js';
import { Cursor, type Message, type MessageFilter, MessageKind, Notice_Reason, Wake }
  from '../gen/threadbus/v1/message.js';
import { JoinThreadRequest, type JoinThreadResponse, ThreadServiceService }
  from '../gen/threadbus/v1/thread_service.js';
import { settled } from './asked.js';
import { type ConnectOptions, Connection, metadata, type Method } from './connection.js';
import { BusError, CursorLost, heeded, milliseconds, Unanswered } from './errors.js';
import { isRepeatable } from './idempotency.js';
import { broken, checked, type Followed, isSeq, Places } from './place.js';
import { checkText } from './text.js';

export { BusError, CursorLost, Unanswered, unpack, type Code, type Detail } from './errors.js';
export type { Followed } from './place.js';
export { checkText } from './text.js';
export { clientOptions, type ConnectOptions, type Method, stubArguments } from './connection.js';

/** A position in a thread. Without an epoch, the thread's epoch is not checked. */
export type Position = Pick<Cursor, 'thread' | 'afterSeq'> & Partial<Cursor>;

export interface CallOptions {
  /** Milliseconds for all attempts; 30 s by default. */
  timeout?: number;
  /**
   * That of the trace which the call continues: what it appends has it. As in W3C's header, version
   * 00, and in `Message.traceparent`. Empty or not valid: what it appends has none.
   */
  traceparent?: string;
}

export interface FollowOptions {
  /**
   * Which messages to deliver. Excludes the agent's own unless it sets `excludeOwn: false`, and
   * inbox() those that are not addressed to the agent unless it sets `addressedToMe: false`.
   */
  filter?: DeepPartial<MessageFilter>;
  /**
   * If messages are not kept any more, or the cursor is lost in another way: throw CursorLost (the
   * default) or continue where the server does.
   */
  onResync?: 'throw' | 'continue';
  /** Leave out the bytes of attachments. */
  omitAttachmentData?: boolean;
  /** Cut off longer texts, at most 64 bytes earlier: see isTruncated(). 0 = no limit. */
  maxContentBytes?: number;
  signal?: AbortSignal;
}

/** Whether the text was cut off. The method getMessage returns the whole. */
export function isTruncated({ content, contentSize }: Message): boolean {
  return Buffer.byteLength(content) < contentSize;
}

const ATTEMPT = 10_000; // ms for one attempt of a call
const SETTLED = 1_000; // ms: a wait that lives this long resets the backoff
const IDLE_PAUSE = 20; // ms after a frame without progress: a server may send many
const LONGEST_FAILING = 60_000; // ms of failures without progress, see follow()
const HEARTBEAT_INTERVAL = 40_000; // ms, if the server sets none
const { REASON_SESSION_ENDED, REASON_THREADS_CLOSED } = WaitEnding_Reason;

export class ThreadBus {
  readonly #connection: Connection;
  readonly #open = new AbortController(); // until close()
  readonly #calls = new Set<Promise<unknown>>(); // running
  #session = new AbortController(); // until goodbye() or close()
  #heartbeats: AbortSignal | undefined; // the session that sends them
  #token: string;
  #agent: string | undefined; // whose token it is; undefined = not known yet

  /**
   * `address` is HOST, HOST:PORT or unix:PATH; the default port is 7420. Connections use TLS, but
   * not those to this machine: localhost, 127.0.0.0/8, ::1 and Unix sockets. `tls://HOST:PORT` and
   * `plaintext://HOST:PORT` say which to use. `token` is that of a registered agent. Throws
   * BusError INVALID_ARGUMENT for an invalid address or file.
   */
  constructor(address: string, options: { token?: string | undefined } & ConnectOptions = {}) {
    this.#connection = new Connection(address, options);
    this.#token = options.token ?? '';
    setMaxListeners(0, this.#open.signal); // every call adds a listener
  }

  /**
   * Registers `agent`, makes all later calls as that agent, and sends heartbeats. Use the same
   * token to register the same agent again. Throws BusError.
   */
  async register(agent: string, token = randomBytes(32).toString('base64url')): Promise<void> {
    const session = this.#session.signal;
    // With a token generated here, the call may be repeated.
    const request = RegisterAgentRequest.create({ agent, token });
    await this.call(AgentServiceService.registerAgent, request);
    this.#token = token;
    this.#agent = agent;
    if (this.#heartbeats === session) return;
    this.#heartbeats = session;
    void this.#keepAlive(session);
  }

  /** Joins a thread, which is created if needed. Follow it from `cursor`. Throws BusError. */
  async join(
    thread: string, fields: DeepPartial<JoinThreadRequest> = {}, options?: CallOptions,
  ): Promise<JoinThreadResponse & { cursor: Cursor }> {
    const request = JoinThreadRequest.create({ create: true, ...fields, thread });
    const response = await this.call(ThreadServiceService.joinThread, request, options);
    return { ...response, cursor: checked(response.cursor, thread) };
  }

  /** Posts a message, with retries, and stores it once. Throws BusError. */
  async post(
    thread: string, content: string, fields: DeepPartial<PostMessageRequest> = {},
    options?: CallOptions,
  ): Promise<PostMessageResponse> {
    const request = PostMessageRequest.create({ ...fields, thread, content });
    request.requestId ||= randomUUID();
    try {
      const response = await this.call(BusServiceService.postMessage, request, options);
      if (isSeq(response.seq)) return response;
      const error = broken(`the seq ${response.seq} of a post`);
      error.outcomeUnknown = true;
      throw error;
    } catch (error) {
      if (error instanceof BusError) error.requestId = request.requestId;
      throw error;
    }
  }

  /** Reports a message or cursor as read: the next join() continues there. Throws BusError. */
  async markRead(at: Followed | Cursor, options?: CallOptions): Promise<void> {
    const cursor = Cursor.create({ ...at, afterSeq: 'seq' in at ? at.seq : at.afterSeq });
    const request = HeartbeatRequest.create({ readCursors: [cursor] });
    await this.call(BusServiceService.heartbeat, request, options);
  }

  /**
   * Ends the session, after all follows and running calls: the agent is offline at once. Any later
   * call starts a new session. Throws BusError.
   */
  async goodbye(options?: CallOptions): Promise<void> {
    this.#session.abort();
    this.#session = new AbortController();
    await Promise.allSettled(this.#calls); // a later call would start a new session
    await this.call(AgentServiceService.endSession, EndSessionRequest.create(), options);
  }

  /** Closes the client: follows end as if the thread were closed, running calls fail. */
  close(): void {
    this.#open.abort(new Error('the client was closed'));
    this.#session.abort();
    this.#connection.close();
  }

  /** Calls any unary method of the stubs, with retries where that is safe. Throws BusError. */
  call<Request, Response>(
    method: Method<Request, Response>, request: Request, options?: CallOptions,
  ): Promise<Response> {
    const call = this.#attempts(method, request, options);
    this.#calls.add(call);
    return call.finally(() => this.#calls.delete(call));
  }

  async #attempts<Request, Response>(
    method: Method<Request, Response>, request: Request,
    { timeout = 30_000, traceparent = '' }: CallOptions = {},
  ): Promise<Response> {
    const repeatable = isRepeatable(method.path, request);
    const open = this.#open.signal;
    const token = this.#token; // the same for all attempts: request ids are unique per agent
    checkText(request);
    const [bytes, until] = [method.requestSerialize(request), Date.now() + timeout];
    for (let failures = 0, doubt = false; ; failures++) {
      open.throwIfAborted();
      try {
        const deadline = Math.min(until, Date.now() + ATTEMPT);
        return await this.#connection.unary(
          method, bytes, metadata(token, traceparent), deadline, open,
        );
      } catch (error) {
        open.throwIfAborted();
        if (!(error instanceof BusError)) throw error;
        doubt ||= error.outcomeUnknown;
        // A refusal by the server settles earlier attempts, except UNAUTHENTICATED.
        const refused = error.reason && error.code !== 'UNAUTHENTICATED' && !error.retryable;
        error.outcomeUnknown ||= doubt && !refused;
        const pause = Math.max(backoff(failures), heeded(error.retryDelay));
        const again = error.retryable && (repeatable || !error.outcomeUnknown);
        if (!again || Date.now() + pause >= until) throw error;
        await rest(pause, open);
      }
    }
  }

  /**
   * Yields the messages after `cursor`, then new ones as they are posted: each once and in order,
   * across reconnects, whatever the server sends. Notices come only to the agent that they are for.
   * Ends when the thread is closed or the session has ended; leave the loop or abort `signal` to
   * stop. Throws CursorLost, and BusError if retrying cannot help, or has not helped for a minute.
   * Disconnections are retried without limit once the server has responded to a call of the client.
   */
  async *follow(
    cursor: Position, options: FollowOptions = {},
  ): AsyncGenerator<Followed, void, undefined> {
    const filter = { excludeOwn: true, ...options.filter };
    yield* this.#follow(WaitMessagesRequest.create({ threads: [cursor], filter }), options);
  }

  /**
   * Yields what is addressed to the agent in all threads in which it takes part, then what is posted,
   * also in threads that it comes to take part in, as by a mention. Each thread starts at the agent's
   * read position; see markRead(). The messages of a thread come in order. Goes on when threads are
   * closed, left or deleted; otherwise as follow().
   */
  async *inbox(options: FollowOptions = {}): AsyncGenerator<Followed, void, undefined> {
    const filter = { excludeOwn: true, addressedToMe: true, ...options.filter };
    yield* this.#follow(WaitMessagesRequest.create({ allMyThreads: true, filter }), options);
  }

  /**
   * Posts a question to agents, those in `expectReply` or else those that are mentioned or handed off
   * to, and returns the first reply to it, or to an edit of it. Throws Unanswered after a notice about
   * each of the agents, or when no request is open any more. Until then it waits, across reconnects.
   * If `signal` is aborted first, the question stays open; the method withdrawRequest withdraws it.
   * Other errors are those of post(), whose time `timeout` limits, and follow(). Marks nothing as
   * read: follow() yields the reply, too.
   */
  async ask(
    thread: string, content: string, fields: DeepPartial<PostMessageRequest>,
    { signal, ...options }: CallOptions & { signal?: AbortSignal } = {},
  ): Promise<Followed> {
    const question = PostMessageRequest.create({ expectReply: {}, ...fields });
    const { seq, epoch } = await this.post(thread, content, question, options);
    const { mentions, handoffTo, expectReply: { agents } = { agents: [] } } = question;
    const asked = agents.length ? agents : [...mentions, ...handoffTo ? [handoffTo] : []];
    const hopes = new Set(asked); // the agents without a notice
    const seqs = new Set([seq]); // of the question and its edits
    const threads = [{ thread, afterSeq: seq, epoch }];
    let closed = false;
    const messages = this.#follow(
      WaitMessagesRequest.create({ threads }), signal ? { signal } : {}, () => { closed = true; },
    );
    try {
      for await (const message of messages) {
        const { notice, replyTo, sender, wakes } = message;
        if (message.editOf === seq) seqs.add(message.seq);
        else if (seqs.has(replyTo) && asked.includes(sender) && wakes !== Wake.WAKE_NOBODY) return message;
        else if (notice?.requestSeq === seq) {
          hopes.delete(notice.agent);
          if (hopes.size > 0) continue;
          const reply = await settled(this, thread, seq, epoch); // it may have come since
          if (reply) return reply;
          const reason = Notice_Reason[notice.reason]!.replace('REASON_', '');
          throw new Unanswered(reason, notice.agent, thread, seq);
        } else if (message.kind === MessageKind.MESSAGE_KIND_THREAD) { // it may have been closed
          const reply = await settled(this, thread, seq, epoch);
          if (reply) return reply;
        }
      }
    } catch (error) { // the question is gone, so its requests ended
      if (!(error instanceof CursorLost && error.isCompacted)) throw error;
      closed = true;
    }
    const reply = closed && await settled(this, thread, seq, epoch);
    if (reply) return reply;
    throw new Unanswered(closed ? 'CLOSED' : 'SESSION_ENDED', asked.at(-1)!, thread, seq);
  }

  /** Yields the messages of a wait; calls `onClosed` if it ends because its threads are closed. */
  async *#follow(
    request: WaitMessagesRequest, options: FollowOptions, onClosed = () => {},
  ): AsyncGenerator<Followed, void, undefined> {
    const { onResync = 'throw', signal } = options;
    const session = this.#session.signal;
    const stop = AbortSignal.any(signal ? [signal, session] : [session]);
    request.omitAttachmentData = options.omitAttachmentData ?? false;
    request.maxContentBytes = options.maxContentBytes ?? 0;
    checkText(request);
    const places = new Places(request);
    let failing: number | undefined; // since when; undefined = not failing
    for (let failures = 0; !stop.aborted; failures++) { // without progress
      request.threads = places.cursors();
      const opened = performance.now();
      let delay = 0; // requested by the server
      let caughtUp = false;
      try {
        for await (const frame of this.#connection.wait(request, this.#token, stop)) {
          if (frame.messages?.messages.some(isNotice)) await this.#learnAgent();
          const { fresh = [], moved, lost } = places.take(frame);
          if (lost && onResync === 'throw') throw new CursorLost(frame.resync!);
          for (const message of fresh) {
            if (stop.aborted) break;
            if (this.#concerns(message)) yield message;
          }
          const progress = moved || !caughtUp && frame.caughtUp;
          caughtUp ||= frame.caughtUp !== undefined;
          if (moved) failures = 0;
          if (progress) failing = undefined;
          if (frame.ending) {
            const { reason, retryDelay } = frame.ending;
            if (reason === REASON_THREADS_CLOSED) onClosed();
            if (reason === REASON_THREADS_CLOSED || reason === REASON_SESSION_ENDED) return;
            delay = milliseconds(retryDelay);
            break; // whatever status follows
          }
          if (!progress && !frame.started) await rest(IDLE_PAUSE, stop);
        }
      } catch (error) {
        if (stop.aborted) break;
        if (!(error instanceof BusError)) throw error;
        if (!error.isDisconnection || !this.#connection.answered) {
          const final = !error.retryable && !(error.reason && error.code === 'INTERNAL');
          failing ??= performance.now();
          if (final || performance.now() - failing >= LONGEST_FAILING) throw error;
        }
        delay = error.retryDelay;
      }
      if (caughtUp && performance.now() - opened >= SETTLED) failures = 0;
      await rest(Math.max(backoff(failures), heeded(delay)), stop);
    }
    signal?.throwIfAborted();
  }

  /** Whether a message is of a known kind, and no notice for others or with an unknown reason. */
  #concerns(message: Message): boolean {
    const { kind, mentions, notice } = message;
    if (!isNotice(message)) return kind in MessageKind;
    return (notice?.reason ?? -1) in Notice_Reason && mentions.includes(this.#agent!);
  }

  /** Asks the server for the agent's name, if register() was not called. Throws BusError. */
  async #learnAgent(): Promise<void> {
    if (this.#agent !== undefined) return;
    const request = GetServerInfoRequest.create();
    const info = await this.call(BusServiceService.getServerInfo, request, { timeout: ATTEMPT });
    this.#agent ??= info.agent;
  }

  /** Sends heartbeats at the server's interval until the session ends. */
  async #keepAlive(session: AbortSignal): Promise<void> {
    for (let failures = 0; !session.aborted;) {
      let pause: number;
      try {
        const beat = HeartbeatRequest.create();
        const response = await this.call(BusServiceService.heartbeat, beat, { timeout: ATTEMPT });
        const interval = milliseconds(response.heartbeatInterval);
        pause = interval > 0 ? Math.min(Math.max(interval, 500), 3_600_000) : HEARTBEAT_INTERVAL;
        failures = 0;
      } catch {
        pause = 10 * backoff(failures++); // 0.25 s at least, up to 20 s
      }
      await rest(pause, session, false); // does not keep the process running
    }
  }
}

const isNotice = ({ kind }: Message) => kind === MessageKind.MESSAGE_KIND_NOTICE;

/** Returns the pause before a retry: doubling, with jitter to spread clients. */
function backoff(failures: number): number {
  return Math.min(2_000, 50 * 2 ** failures) * (0.5 + Math.random() / 2);
}

/** Pauses for `pause` ms, or until `stop` is aborted. */
async function rest(pause: number, stop: AbortSignal, ref = true): Promise<void> {
  await sleep(pause, undefined, { signal: stop, ref }).catch(() => {});
}
