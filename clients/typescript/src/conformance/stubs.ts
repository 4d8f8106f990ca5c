/** The generated stubs, called by name, without retries and with a deadline. */
import * as grpc from '@grpc/grpc-js';
import * as agents from '../../gen/threadbus/v1/agent_service.js';
import * as bus from '../../gen/threadbus/v1/bus_service.js';
import * as threads from '../../gen/threadbus/v1/thread_service.js';
import { BusError, type ConnectOptions, type Method, stubArguments } from '../threadbus.js';
import { type Json, type Parser, parse } from './json.js';

type Unary = (
  request: unknown, metadata: grpc.Metadata, options: grpc.CallOptions,
  callback: (failure: grpc.ServiceError | null, response: unknown) => void,
) => grpc.ClientUnaryCall;

/** The unary method `name`, for example `PostMessage`, and its request. */
export function unary(name: string, json: Json): [Method<unknown, unknown>, unknown] {
  const methods: Record<string, unknown> = {
    ...agents.AgentServiceService, ...bus.BusServiceService, ...threads.ThreadServiceService,
  };
  const method = methods[lowerFirst(name)];
  if (!method) throw new TypeError(`there is no method ${name}`);
  return [method as Method<unknown, unknown>, parsed(name, json)];
}

function parsed(name: string, json: Json): unknown {
  const types: Record<string, unknown> = { ...agents, ...bus, ...threads };
  return parse(types[`${name}Request`] as Parser<unknown>, json);
}

const lowerFirst = (name: string) => name[0]!.toLowerCase() + name.slice(1);

export class Stubs {
  token: string;
  readonly #bus: bus.BusServiceClient;
  readonly #clients: grpc.Client[];

  constructor(address: string, token: string, options: ConnectOptions) {
    this.token = token;
    const connected = stubArguments(address, options);
    this.#bus = new bus.BusServiceClient(...connected);
    this.#clients = [this.#bus, new agents.AgentServiceClient(...connected),
      new threads.ThreadServiceClient(...connected)];
  }

  /** Calls the unary method `name`, for example `PostMessage`; `timeout` in seconds. */
  call(name: string, json: Json, timeout: number, signal: AbortSignal, traceparent?: string) {
    const method = lowerFirst(name);
    const client = this.#clients.find((client) => method in client);
    if (!client) throw new TypeError(`there is no method ${name}`);
    const stub = (client as unknown as Record<string, Unary>)[method]!.bind(client);
    const request = parsed(name, json);
    const metadata = this.#metadata();
    if (traceparent) metadata.set('traceparent', traceparent);
    return new Promise<unknown>((resolve, reject) => {
      const call = stub(request, metadata, until(timeout), (failure, response) =>
        failure ? reject(new BusError(failure)) : resolve(response));
      signal.addEventListener('abort', () => call.cancel());
    });
  }

  /** Opens one wait and yields its frames. */
  wait(json: Json, timeout: number | undefined, signal: AbortSignal) {
    const request = parse(bus.WaitMessagesRequest, json);
    const metadata = this.#metadata({ waitForReady: true });
    return responses(this.#bus.waitMessages(request, metadata, until(timeout)), signal);
  }

  /** Opens one stream of posts, sends them, and yields the responses. */
  postMany(json: Json[], timeout: number | undefined, signal: AbortSignal) {
    const requests = json.map((request) => parse(bus.PostMessagesRequest, request));
    const call = this.#bus.postMessages(this.#metadata(), until(timeout));
    for (const request of requests) call.write(request);
    call.end();
    return responses(call, signal);
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  #metadata(options: grpc.MetadataOptions = {}): grpc.Metadata {
    const metadata = new grpc.Metadata(options);
    if (this.token) metadata.set('authorization', `Bearer ${this.token}`);
    return metadata;
  }
}

function until(timeout: number | undefined): grpc.CallOptions {
  return timeout === undefined ? {} : { deadline: Date.now() + timeout * 1000 };
}

async function* responses<Response>(
  call: grpc.ClientReadableStream<Response> | grpc.ClientDuplexStream<never, Response>,
  signal: AbortSignal,
): AsyncGenerator<Response> {
  signal.addEventListener('abort', () => call.cancel());
  try {
    yield* call as AsyncIterable<Response>;
  } catch (failure) {
    throw new BusError(failure as grpc.ServiceError);
  }
}
