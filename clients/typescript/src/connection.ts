/** The connection to a server, and what each call over it has in common. */
import * as grpc from '@grpc/grpc-js';

const OPTIONS: grpc.ClientOptions = {
  'grpc.keepalive_time_ms': 30_000, // by default never; the server allows a ping every 10 s
  'grpc.keepalive_timeout_ms': 10_000, // enough here; grpc-core's http2.ping_timeout_ms is unknown
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.max_receive_message_length': 16 * 1024 * 1024, // by default 4 MiB
  'grpc.initial_reconnect_backoff_ms': 250,
  'grpc.max_reconnect_backoff_ms': 5_000, // the default's 120 s would strand agents
  'grpc.use_local_subchannel_pool': 1, // so that a new channel is a new connection
};

/** What a client of the generated stubs needs as options, too. */
export function clientOptions(address: string): grpc.ClientOptions {
  // Else http_proxy, https_proxy and grpc_proxy take even local calls to the proxy.
  const local = /^(127\.|localhost:|\[::1\]|unix:)/.test(address);
  return { ...OPTIONS, 'grpc.enable_http_proxy': local ? 0 : 1 };
}

/** A method of the generated stubs, such as `BusServiceService.getMessage`. */
export type Method<Request, Response> = grpc.MethodDefinition<Request, Response>;
type Answered<Response> = Pick<Method<never, Response>, 'path' | 'responseDeserialize'>;

export class Connection {
  /** Sent with each call when it is not empty. */
  token: string;
  readonly #address: string;
  #channel: grpc.Client;

  constructor(address: string, token: string) {
    this.#address = address;
    this.token = token;
    this.#channel = this.#connect();
  }

  /** Makes a unary call, once. `request` is serialised, so that a wrong type is no failed call. */
  unary<Response>(
    { path, responseDeserialize }: Answered<Response>, request: Buffer,
    deadline: number, stop: AbortSignal,
  ): Promise<Response> {
    const channel = this.#channel;
    return new Promise((resolve, reject) => {
      const call = channel.makeUnaryRequest(
        path, asIs, responseDeserialize, request, this.#metadata(), { deadline },
        (failure, response) => {
          stop.removeEventListener('abort', cancel);
          if (!failure) return resolve(response!);
          if (failure.code === grpc.status.DEADLINE_EXCEEDED) this.#renew(channel);
          reject(failure);
        },
      );
      const cancel = () => call.cancel();
      stop.addEventListener('abort', cancel);
    });
  }

  /** Opens a stream of frames, and what it is to be ended with: `lost` when it went silent. */
  stream<Response>(
    { path, responseDeserialize }: Answered<Response>, request: Buffer,
  ): { frames: AsyncIterator<Response, undefined>; cancel: () => void; lost: () => void } {
    const channel = this.#channel;
    const metadata = this.#metadata({ waitForReady: true }); // unary calls tell why they cannot
    const call = channel.makeServerStreamRequest(
      path, asIs, responseDeserialize, request, metadata);
    call.on('error', () => {}); // else one that nobody reads any more would end the process
    const cancel = () => call.cancel();
    const lost = () => { cancel(); this.#renew(channel); };
    return { frames: call[Symbol.asyncIterator](), cancel, lost };
  }

  close(): void {
    this.#channel.close();
  }

  #connect(): grpc.Client {
    const options = clientOptions(this.#address);
    return new grpc.Client(this.#address, grpc.credentials.createInsecure(), options);
  }

  /** grpc-js waits without end for a connection that was accepted and then says nothing. */
  #renew(silent: grpc.Client): void {
    if (this.#channel !== silent) return;
    silent.close(); // calls under way on it go on
    this.#channel = this.#connect();
  }

  #metadata(options: grpc.MetadataOptions = {}): grpc.Metadata {
    const metadata = new grpc.Metadata(options);
    if (this.token) metadata.set('authorization', `Bearer ${this.token}`);
    return metadata;
  }
}

/** Whether it is a call that failed, not a program. */
export function isFailure(error: unknown): error is grpc.ServiceError {
  return error instanceof Error && 'metadata' in error && error.metadata instanceof grpc.Metadata;
}

const asIs = (bytes: Buffer): Buffer => bytes;
