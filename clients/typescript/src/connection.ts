/** The connection to a server: channel options, metadata, and how responses are parsed. */
import { BinaryReader } from '@bufbuild/protobuf/wire';
import * as grpc from '@grpc/grpc-js';
import type { Duration } from '../gen/google/protobuf/duration.js';
import { BusServiceService, type WaitMessagesRequest, type WaitMessagesResponse }
  from '../gen/threadbus/v1/bus_service.js';
import { parseAddress } from './address.js';
import { BusError, milliseconds } from './errors.js';
import { broken } from './place.js';
import { credentialsFor, type TlsFiles } from './tls.js';

const OPTIONS: grpc.ClientOptions = {
  'grpc.keepalive_time_ms': 30_000, // off by default; the server allows one every 10 s
  'grpc.keepalive_timeout_ms': 10_000, // grpc-js has no http2.ping_timeout_ms
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.max_receive_message_length': 16 * 1024 * 1024, // default: 4 MiB
  'grpc.initial_reconnect_backoff_ms': 250,
  'grpc.max_reconnect_backoff_ms': 5_000, // the default's 120 s would strand agents
  'grpc.use_local_subchannel_pool': 1, // so that a new channel is a new connection
};
/** grpc-js's texts for a connection that the server closed before it responded. */
const CLOSED_EARLY = /Last error: (Failed to connect|.*ECONNRESET|.*EPIPE)|Connection dropped/;
const FIRST_FRAME = 20_000; // ms to connect and receive `started`
const TRACEPARENT = /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** The channel options, also for clients of the generated stubs. */
export function clientOptions(address: string): grpc.ClientOptions {
  // Otherwise http_proxy, https_proxy and grpc_proxy would apply to local calls, too.
  return { ...OPTIONS, 'grpc.enable_http_proxy': parseAddress(address).local ? 0 : 1 };
}

/** How to connect to an address. */
export interface ConnectOptions extends TlsFiles {
  /** Used as they are, instead of those for the address and the files. */
  credentials?: grpc.ChannelCredentials | undefined;
}

/**
 * The arguments of a client of the generated stubs: endpoint, credentials and channel options.
 * Throws BusError INVALID_ARGUMENT for an invalid address or file.
 */
export function stubArguments(
  address: string, options: ConnectOptions = {},
): [string, grpc.ChannelCredentials, grpc.ClientOptions] {
  const parsed = parseAddress(address);
  const credentials = options.credentials ?? credentialsFor(parsed, options);
  return [parsed.endpoint, credentials, clientOptions(address)];
}

/** A method of the generated stubs, for example `BusServiceService.getMessage`. */
export type Method<Request, Response> = grpc.MethodDefinition<Request, Response>;

export class Connection {
  readonly #open: () => grpc.Client;
  #client: grpc.Client;
  #answered = false;

  constructor(address: string, options: ConnectOptions) {
    const connected = stubArguments(address, options); // reads the files once
    this.#open = () => new grpc.Client(...connected);
    this.#client = this.#open();
  }

  /** Makes a unary call, without retries. Throws BusError. */
  async unary<Request, Response>(
    { path, responseDeserialize }: Method<Request, Response>, request: Buffer,
    sent: grpc.Metadata, deadline: number, stop: AbortSignal,
  ): Promise<Response> {
    const client = this.#client;
    let cancel = () => {};
    try {
      const response = await new Promise<Response>((resolve, reject) => {
        const call = client.makeUnaryRequest(
          path, asIs, strictly(responseDeserialize), request, sent, { deadline },
          (failure, response) => (failure ? reject(failure) : resolve(response!)),
        );
        cancel = () => call.cancel();
        stop.addEventListener('abort', cancel);
      });
      this.#answered = true;
      return response;
    } catch (failure) {
      const error = this.#told(failure); // made here for its stack
      if (error.code === 'DEADLINE_EXCEEDED') this.#renew(client);
      throw error;
    } finally {
      stop.removeEventListener('abort', cancel);
    }
  }

  /** Yields the frames of one wait. Throws BusError, for example after 2.5 intervals of silence. */
  async *wait(
    request: WaitMessagesRequest, token: string, stop: AbortSignal,
  ): AsyncGenerator<WaitMessagesResponse, void, undefined> {
    const client = this.#client;
    const { path, requestSerialize, responseDeserialize } = BusServiceService.waitMessages;
    const call = client.makeServerStreamRequest(path, asIs, strictly(responseDeserialize),
      requestSerialize(request),
      metadata(token)); // without waitForReady, which would hide that a certificate is refused
    call.on('error', () => {}); // otherwise an unhandled error would end the process
    const cancel = () => call.cancel();
    stop.addEventListener('abort', cancel);
    const frames: AsyncIterator<WaitMessagesResponse, undefined> = call[Symbol.asyncIterator]();
    let patience = FIRST_FRAME;
    const lost = () => { cancel(); this.#renew(client); };
    try {
      while (true) {
        const watchdog = setTimeout(lost, patience);
        const { value: frame, done } = await frames.next().finally(() => clearTimeout(watchdog));
        if (done) return;
        this.#answered = true;
        if (frame.started) patience = silence(frame.started.keepaliveInterval);
        yield frame;
      }
    } catch (failure) {
      const error = this.#told(failure);
      throw error.unparsed ? broken('a frame that cannot be parsed') : error;
    } finally {
      stop.removeEventListener('abort', cancel);
      cancel(); // leaving the iterator does not end the call
    }
  }

  /** Whether the server has responded to any call. */
  get answered(): boolean {
    return this.#answered;
  }

  /**
   * Returns the error of a call. Until the server has responded to one, it may expect TLS or a
   * client certificate, and grpc-js says only that there is no connection.
   */
  #told(failure: unknown): BusError {
    const error = new BusError(failure as grpc.ServiceError);
    if (error.reason) this.#answered = true;
    if (!this.#answered && CLOSED_EARLY.test(error.message)) {
      error.message = error.message.replace(/\. Resolution note: $/, '');
      error.message += ': the server closes the connection; it may use TLS (tls://HOST:PORT), or '
        + 'require a client certificate';
    }
    return error;
  }

  /** Accepts no more calls; running ones continue. */
  close(): void {
    this.#client.close();
  }

  /** Replaces a silent connection: grpc-js waits forever for one that was accepted. */
  #renew(silent: grpc.Client): void {
    if (this.#client !== silent) return; // another call replaced it
    silent.close();
    this.#client = this.#open();
  }
}

/** Returns how long to wait for a frame, in ms, given the granted interval. */
function silence(granted: Duration | undefined): number {
  const interval = milliseconds(granted);
  const allowed = interval > 0 ? Math.min(Math.max(interval, 1_000), 300_000) : 45_000;
  return 2.5 * allowed;
}

/** The metadata of a call. Leaves out a traceparent that is not valid. */
export function metadata(token: string, traceparent = ''): grpc.Metadata {
  const metadata = new grpc.Metadata();
  if (token) metadata.set('authorization', `Bearer ${token}`);
  if (TRACEPARENT.test(traceparent)) metadata.set('traceparent', traceparent);
  return metadata;
}

/** Requests are already serialised, so that an error in that does not look like a failed call. */
const asIs = (bytes: Buffer): Buffer => bytes;

/** Makes a parser refuse text that is not UTF-8, in which protobuf-es would replace characters. */
function strictly<Response>(parse: (bytes: Buffer) => Response): (bytes: Buffer) => Response {
  const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }); // keep U+FEFF
  const decode = (text: Uint8Array) => utf8.decode(text);
  // ts-proto's decode() also accepts a reader.
  return (bytes) => parse(new BinaryReader(bytes, decode) as unknown as Buffer);
}
