/** What goes wrong, as exceptions. */
import * as grpc from '@grpc/grpc-js';
import * as rpc from '../gen/google/rpc/error_details.js';
import { Status } from '../gen/google/rpc/status.js';
import { WaitResync_Reason } from '../gen/threadbus/v1/bus_service.js';
import type { WaitResync } from '../gen/threadbus/v1/bus_service.js';
import { milliseconds } from './time.js';

const { BadRequest, DebugInfo, ErrorInfo, Help, LocalizedMessage } = rpc;
const { PreconditionFailure, QuotaFailure, RequestInfo, ResourceInfo, RetryInfo } = rpc;
const DETAILS = {
  BadRequest, DebugInfo, ErrorInfo, Help, LocalizedMessage,
  PreconditionFailure, QuotaFailure, RequestInfo, ResourceInfo, RetryInfo,
};

/** A detail of google/rpc/error_details.proto; `type` says which, such as `BadRequest`. */
export type Detail = {
  [Type in keyof typeof DETAILS]: { type: Type } & ReturnType<(typeof DETAILS)[Type]['decode']>;
}[keyof typeof DETAILS];

/** The name of a status, such as `NOT_FOUND`. */
export type Code = keyof typeof grpc.status;

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
  /** Perhaps it was done: repeat a post with the same requestId, or not at all. */
  outcomeUnknown: boolean;

  constructor(failure: grpc.ServiceError) {
    const [bytes] = failure.metadata.get('grpc-status-details-bin');
    const status = bytes instanceof Buffer ? Status.decode(bytes) : Status.create();
    super(status.message || failure.details);
    this.code = grpc.status[failure.code] as Code;
    this.details = status.details.flatMap(({ typeUrl, value }) => {
      const type = typeUrl.replace('type.googleapis.com/google.rpc.', '');
      return type in DETAILS
        ? [{ type, ...DETAILS[type as keyof typeof DETAILS].decode(value) } as Detail] : [];
    });
    const info = this.details.find((detail) => detail.type === 'ErrorInfo');
    const answered = info?.domain === 'threadbus';
    this.reason = answered ? info.reason : '';
    this.metadata = answered ? info.metadata : {};
    const retry = this.details.find((detail) => detail.type === 'RetryInfo');
    this.retryDelay = milliseconds(retry?.retryDelay);
    this.retryable = answered ? this.code === 'UNAVAILABLE' : NO_ANSWER.includes(this.code);
    this.outcomeUnknown = answered ? this.code === 'INTERNAL' : this.retryable;
  }
}

/** The cursor is of another history of the thread; follow(resync.position.cursor) goes on. */
export class CursorLost extends Error {
  override readonly name = 'CursorLost';

  constructor(readonly resync: WaitResync) {
    const { reason, requested } = resync;
    const why = WaitResync_Reason[reason] ?? reason;
    super(`${why}: ${requested?.thread} is not what it was at ${requested?.afterSeq}`);
  }
}
