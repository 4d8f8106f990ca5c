/** What goes wrong, as exceptions. */
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import type { Any } from '../gen/google/protobuf/any.js';
import type { Duration } from '../gen/google/protobuf/duration.js';
import { BadRequest, ErrorInfo, QuotaFailure, ResourceInfo, RetryInfo }
  from '../gen/google/rpc/error_details.js';
import { Status } from '../gen/google/rpc/status.js';
import { type WaitResync, WaitResync_Reason } from '../gen/threadbus/v1/bus_service.js';

const DETAILS = { BadRequest, ErrorInfo, QuotaFailure, ResourceInfo, RetryInfo };

/** A detail of google/rpc/error_details.proto; `type` says which, such as `BadRequest`. */
export type Detail = {
  [Type in keyof typeof DETAILS]: { type: Type } & ReturnType<(typeof DETAILS)[Type]['decode']>;
}[keyof typeof DETAILS];

/** The details of a Status, such as that of a PostResult; without those that are not known. */
export function unpack(details: Any[]): Detail[] {
  return details.flatMap(({ typeUrl, value }) => {
    const type = typeUrl.replace('type.googleapis.com/google.rpc.', '') as Detail['type'];
    try {
      return type in DETAILS ? [{ type, ...DETAILS[type].decode(value) } as Detail] : [];
    } catch {
      return []; // bytes that are none
    }
  });
}

/** The name of a status, such as `NOT_FOUND`. */
export type Code = keyof typeof status;

// Without an ErrorInfo nobody said these: the call may have been done.
const NO_ANSWER = ['CANCELLED', 'UNKNOWN', 'DEADLINE_EXCEEDED', 'INTERNAL', 'UNAVAILABLE'];

const AWAY = ['CANCELLED', 'DEADLINE_EXCEEDED', 'UNAVAILABLE'];

/**
 * The code for what a proxy refused in HTTP, 3xx or 4xx: the call did not reach the server. gRPC
 * has INTERNAL or UNKNOWN for most of these, as if it might have been done. Undefined for all else;
 * a proxy that waited too long (408) leaves open what became of it.
 */
function refusedInHttp({ code, details }: ServiceError): status | undefined {
  const [, http] = /^Received HTTP status code ([34]\d\d)/.exec(details) ?? []; // grpc-js's words
  if (!http || http === '408') return undefined;
  if (http === '413') return status.RESOURCE_EXHAUSTED;
  return code === status.UNKNOWN || code === status.INTERNAL ? status.FAILED_PRECONDITION : code;
}

/** The details that came with a failure; without those that cannot be parsed. */
function said(failure: ServiceError): Status {
  const [bytes] = failure.metadata.get('grpc-status-details-bin');
  try {
    return bytes instanceof Buffer ? Status.decode(bytes) : Status.create();
  } catch {
    return Status.create();
  }
}

/** A refusal, whose `reason` errors.proto explains; or no answer, and `reason` is empty. */
export class BusError extends Error {
  override readonly name = 'BusError';
  readonly code: Code;
  /** Such as `SEQ_CONFLICT`; empty when it was not the server that spoke. */
  readonly reason: string;
  /** What goes with the reason: errors.proto has the keys. */
  readonly metadata: { [key: string]: string };
  readonly details: Detail[];
  /** Milliseconds that the server wants the caller to wait before coming again. */
  readonly retryDelay: number;
  /** What the server sent cannot be parsed. */
  readonly unparsed: boolean;
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;
  /** Perhaps it was done: repeat a post with its `requestId`, or not at all. */
  outcomeUnknown: boolean;
  /** What a post was sent with. */
  requestId = '';

  /** Whether it says no more than that the server is away, or busy. */
  get isDisconnection(): boolean {
    return this.reason === 'DRAINING' || this.reason === 'STORE_BUSY'
      || this.outcomeUnknown && AWAY.includes(this.code);
  }

  /** A failure of which it is known what became of the call. */
  static certain(code: status, details: string): BusError {
    return new BusError({ code, details, metadata: new Metadata() } as ServiceError, true);
  }

  constructor(failure: ServiceError, certain = false) {
    const { message, details } = said(failure);
    super(message || failure.details);
    const refused = refusedInHttp(failure);
    this.code = status[refused ?? failure.code] as Code;
    this.details = unpack(details);
    const info = this.details.find(({ type }) => type === 'ErrorInfo') as ErrorInfo | undefined;
    const answered = info?.domain === 'threadbus';
    this.reason = answered ? info.reason : '';
    this.metadata = answered ? info.metadata : {};
    const retry = this.details.find(({ type }) => type === 'RetryInfo') as RetryInfo | undefined;
    this.retryDelay = milliseconds(retry?.retryDelay);
    this.unparsed = /^Response message parsing error/.test(failure.details); // grpc-js's words
    const sure = answered || refused !== undefined || certain;
    const inDoubt = sure ? answered && this.code === 'INTERNAL' : NO_ANSWER.includes(this.code);
    this.outcomeUnknown = inDoubt;
    this.retryable = sure ? !certain && this.code === 'UNAVAILABLE' // 429, too: too many calls
      : inDoubt && !this.unparsed;
  }
}

/** The cursor is of another history; what it has is at `resync.position.cursor`. */
export class CursorLost extends Error {
  override readonly name = 'CursorLost';

  constructor(readonly resync: WaitResync) {
    const { reason, requested } = resync;
    const why = WaitResync_Reason[reason] ?? reason;
    super(`${why}: ${requested?.thread} is not what it was at ${requested?.afterSeq}`);
  }
}

/** How long that is; 0 if there is none. */
export function milliseconds(duration: Duration | undefined): number {
  return duration ? duration.seconds * 1e3 + duration.nanos / 1e6 : 0;
}

/** How long to pause when a server asks for `delay` milliseconds: a minute at most. */
export function heeded(delay: number): number {
  return Math.min(delay, 60_000);
}
