/** The conformance driver; tests/conformance/README.md describes the protocol. */
import { PostMessageRequest } from '../gen/threadbus/v1/bus_service.js';
import { Cursor } from '../gen/threadbus/v1/message.js';
import { joinStartFromJSON } from '../gen/threadbus/v1/thread_service.js';
import { any, type Json, parse, plain } from './conformance/json.js';
import { Stubs, unary } from './conformance/stubs.js';
import {
  BusError, type ConnectOptions, CursorLost, isTruncated, ThreadBus, Unanswered,
} from './threadbus.js';

/** A command. Its `do` decides which fields it has. */
interface Command {
  id: number;
  do: string;
  address: string;
  addressed?: boolean;
  agent: string;
  ca_file?: string;
  client_cert?: string;
  client_key?: string;
  cursor: Json;
  max_content_bytes?: number;
  method: string;
  omit_attachment_data?: boolean;
  on_resync?: 'throw' | 'continue';
  own?: boolean;
  read?: boolean;
  request: Json;
  requests: Json[];
  start?: string;
  target: number;
  thread: string;
  timeout?: number;
  token?: string;
  traceparent?: string;
}

let opened: { bus: ThreadBus; stubs: Stubs } | undefined;
const running = new Map<number, AbortController>();

/** Runs a command, and returns its result, the value of `ok`. */
async function obey(command: Command, signal: AbortSignal): Promise<unknown> {
  const { id, timeout, traceparent } = command;
  const options = {
    ...timeout === undefined ? {} : { timeout: timeout * 1000 },
    ...traceparent === undefined ? {} : { traceparent },
  };
  switch (command.do) {
    case 'open':
      close();
      opened = {
        bus: new ThreadBus(command.address, { token: command.token, ...files(command) }),
        stubs: new Stubs(command.address, command.token ?? '', files(command)),
      };
      return {};
    case 'close':
      close();
      return {};
    case 'cancel':
      running.get(command.target)?.abort();
      return {};
    case 'call':
      return client().stubs.call(command.method, command.request, timeout!, signal, traceparent);
    case 'invoke':
      return client().bus.call(...unary(command.method, command.request));
    case 'wait':
      for await (const frame of client().stubs.wait(command.request, timeout, signal)) {
        say({ id, frame: plain(frame) });
      }
      return {};
    case 'post_many':
      for await (const response of client().stubs.postMany(command.requests, timeout, signal)) {
        say({ id, response: plain(response) });
      }
      return {};
    case 'register':
      await client().bus.register(command.agent, command.token);
      client().stubs.token = command.token!;
      return {};
    case 'join': {
      const start = joinStartFromJSON(command.start ?? 0);
      return client().bus.join(command.thread, { start }, options);
    }
    case 'post': {
      const request = parse(PostMessageRequest, command.request);
      return client().bus.post(request.thread, request.content, request, options);
    }
    case 'ask': {
      const request = parse(PostMessageRequest, command.request);
      const { thread, content } = request;
      const { epoch, hiddenSeq, ...reply } =
        await client().bus.ask(thread, content, request, { signal, ...options });
      return reply;
    }
    case 'follow':
    case 'inbox':
      await follow(client().bus, command, signal);
      return {};
    case 'read':
      await client().bus.markRead(parse(Cursor, command.cursor));
      return {};
    case 'goodbye':
      await client().bus.goodbye();
      return {};
    default:
      throw new Unimplemented(command.do);
  }
}

function files(command: Command): ConnectOptions {
  const { ca_file: caFile, client_cert: clientCert, client_key: clientKey } = command;
  return { caFile, clientCert, clientKey };
}

function client(): { bus: ThreadBus; stubs: Stubs } {
  if (!opened) throw new Error('nothing is open');
  return opened;
}

async function follow(bus: ThreadBus, command: Command, signal: AbortSignal): Promise<void> {
  const { id, addressed = true, on_resync: onResync = 'throw', own = false } = command;
  const options = {
    onResync, signal,
    omitAttachmentData: command.omit_attachment_data ?? false,
    maxContentBytes: command.max_content_bytes ?? 0,
  };
  const messages = command.do === 'inbox'
    ? bus.inbox({ ...options, filter: { addressedToMe: addressed } })
    : bus.follow(parse(Cursor, command.cursor), { ...options, filter: { excludeOwn: !own } });
  try {
    for await (const followed of messages) {
      const { epoch, hiddenSeq, ...message } = followed;
      say({ id, message: plain(message), truncated: isTruncated(message) });
      if (command.read) await bus.markRead(followed);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

function close(): void {
  opened?.bus.close();
  opened?.stubs.close();
  opened = undefined;
  for (const command of running.values()) command.abort();
}

class Unimplemented extends Error {}

function told(error: unknown, signal: AbortSignal): object {
  const { message } = error as Error;
  if (error instanceof CursorLost) {
    return { code: 'OUT_OF_RANGE', message, resync: plain(error.resync) };
  }
  if (error instanceof Unanswered) {
    const { reason, agent, seq } = error;
    return { code: 'FAILED_PRECONDITION', message, unanswered: { reason, agent, seq } };
  }
  if (error instanceof BusError) {
    const { code, reason, metadata, outcomeUnknown: outcome_unknown } = error;
    return { code, message, reason, metadata, details: error.details.map(any), outcome_unknown };
  }
  if (signal.aborted) return { code: 'CANCELLED', message };
  return { code: error instanceof Unimplemented ? 'UNIMPLEMENTED' : 'INTERNAL', message };
}

async function run(command: Command): Promise<void> {
  const { id } = command;
  const stop = new AbortController();
  try {
    const done = obey(command, stop.signal);
    running.set(id, stop); // not earlier, or close() would abort itself
    say({ id, ok: plain(await done) });
  } catch (error) {
    say({ id, error: told(error, stop.signal) });
  } finally {
    running.delete(id);
  }
}

const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);

let rest = '';
process.stdin.setEncoding('utf8');
for await (const chunk of process.stdin) {
  const lines = `${rest}${chunk}`.split('\n'); // readline also splits at U+2028
  rest = lines.pop()!;
  for (const line of lines) void run(JSON.parse(line) as Command);
}
close();
process.exit(0);
