/** What goes wrong, as exceptions. */
import { type ServiceError, status } from '@grpc/grpc-js';
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

/** The details of a Status, such as that of a PostResult; those that are not known are left out. */
export function unpack(details: Any[]): Detail[] {
  return details.flatMap(({ typeUrl, value }) => {
    const type = typeUrl.replace('type.googleapis.com/google.rpc.', '') as Detail['type'];
    return type in DETAILS ? [{ type, ...DETAILS[type].decode(value) } as Detail] : [];
  });
}

/** The name of a status, such as `NOT_FOUND`. */
export type Code = keyof typeof status;

// Without an ErrorInfo nobody said these: the call may have been done.
const NO_ANSWER = ['CANCELLED', 'UNKNOWN', 'DEADLINE_EXCEEDED', 'INTERNAL', 'UNAVAILABLE'];

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
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;
  /** Perhaps it was done: repeat a post with its `requestId`, or not at all. */
  outcomeUnknown: boolean;
  /** What a post was sent with. */
  requestId = '';

  constructor(failure: ServiceError) {
    const [bytes] = failure.metadata.get('grpc-status-details-bin');
    const said = bytes instanceof Buffer ? Status.decode(bytes) : Status.create();
    super(said.message || failure.details);
    this.code = status[failure.code] as Code;
    this.details = unpack(said.details);
    const info = this.details.find(({ type }) => type === 'ErrorInfo') as ErrorInfo | undefined;
    const answered = info?.domain === 'threadbus';
    this.reason = answered ? info.reason : '';
    this.metadata = answered ? info.metadata : {};
    const retry = this.details.find(({ type }) => type === 'RetryInfo') as RetryInfo | undefined;
    this.retryDelay = milliseconds(retry?.retryDelay);
    this.retryable = answered ? this.code === 'UNAVAILABLE' : NO_ANSWER.includes(this.code);
    this.outcomeUnknown = answered ? this.code === 'INTERNAL' : this.retryable;
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

/** How long that is. */
export function milliseconds(duration: Duration | undefined): number {
  return duration ? duration.seconds * 1e3 + duration.nanos / 1e6 : 0;
}
