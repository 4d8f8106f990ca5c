/** The exceptions of the client. */
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import type { Any } from '../gen/google/protobuf/any.js';
import type { Duration } from '../gen/google/protobuf/duration.js';
import { BadRequest, ErrorInfo, QuotaFailure, ResourceInfo, RetryInfo }
  from '../gen/google/rpc/error_details.js';
import { Status } from '../gen/google/rpc/status.js';
import { type WaitResync, WaitResync_Reason } from '../gen/threadbus/v1/bus_service.js';
import { Cursor } from '../gen/threadbus/v1/message.js';

const DETAILS = { BadRequest, ErrorInfo, QuotaFailure, ResourceInfo, RetryInfo };

/** A detail of google/rpc/error_details.proto; `type` is its name, for example `BadRequest`. */
export type Detail = {
  [Type in keyof typeof DETAILS]: { type: Type } & ReturnType<(typeof DETAILS)[Type]['decode']>;
}[keyof typeof DETAILS];

/** Returns the details of a Status, for example of a PostResult, without unknown ones. */
export function unpack(details: Any[]): Detail[] {
  return details.flatMap(({ typeUrl, value }) => {
    const type = typeUrl.replace('type.googleapis.com/google.rpc.', '') as Detail['type'];
    try {
      return type in DETAILS ? [{ type, ...DETAILS[type].decode(value) } as Detail] : [];
    } catch {
      return []; // invalid bytes
    }
  });
}

/** The name of a status code, for example `NOT_FOUND`. */
export type Code = keyof typeof status;

// Without ErrorInfo these leave the outcome of the call unknown.
const NO_ANSWER = ['CANCELLED', 'UNKNOWN', 'DEADLINE_EXCEEDED', 'INTERNAL', 'UNAVAILABLE'];

const AWAY = ['CANCELLED', 'DEADLINE_EXCEEDED', 'UNAVAILABLE'];

/**
 * Returns the code for a call that a proxy refused with HTTP 3xx or 4xx, so that it did not reach
 * the server. gRPC maps most of these to INTERNAL or UNKNOWN, as if the outcome were unknown.
 * Undefined otherwise, and for 408, a proxy timeout, after which the outcome is unknown.
 */
function refusedInHttp({ code, details }: ServiceError): status | undefined {
  const [, http] = /^Received HTTP status code ([34]\d\d)/.exec(details) ?? []; // grpc-js's text
  if (!http || http === '408') return undefined;
  if (http === '413') return status.RESOURCE_EXHAUSTED;
  return code === status.UNKNOWN || code === status.INTERNAL ? status.FAILED_PRECONDITION : code;
}

/**
 * Whether a handshake failed in a way that a retry cannot fix: one side refuses the other's
 * certificate, or the server does not use TLS.
 */
function isUntrusted({ code, details }: ServiceError): boolean {
  return code === status.UNAVAILABLE // Node's and OpenSSL's texts, in grpc-js's
    && /^No connection established\. Last error: Error.*(certificate|wrong version number)/s
      .test(details);
}

/** Returns the Status that came with a failure; empty if there is none or it cannot be parsed. */
function said(failure: ServiceError): Status {
  const [bytes] = failure.metadata.get('grpc-status-details-bin');
  try {
    return bytes instanceof Buffer ? Status.decode(bytes) : Status.create();
  } catch {
    return Status.create();
  }
}

/** A call failed. `reason`, see errors.proto, is empty if no server responded. */
export class BusError extends Error {
  override readonly name = 'BusError';
  readonly code: Code;
  /** For example `SEQ_CONFLICT`; empty if the error is not the server's. */
  readonly reason: string;
  /** The metadata of the reason; its keys are in errors.proto. */
  readonly metadata: { [key: string]: string };
  readonly details: Detail[];
  /** Milliseconds that the server asks the client to pause before a retry. */
  readonly retryDelay: number;
  /** Whether the response could not be parsed. */
  readonly unparsed: boolean;
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;
  /** Whether the call may have been done: repeat a post with its `requestId`, or not at all. */
  outcomeUnknown: boolean;
  /** The request id of a post. */
  requestId = '';

  /** Whether it means only that the server is unreachable or busy. */
  get isDisconnection(): boolean {
    return this.reason === 'DRAINING' || this.reason === 'STORE_BUSY'
      || this.outcomeUnknown && AWAY.includes(this.code);
  }

  /** Returns an error after which the outcome of the call is known. */
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
    this.unparsed = /^Response message parsing error/.test(failure.details); // grpc-js's text
    const final = certain || !answered && isUntrusted(failure);
    const sure = answered || refused !== undefined || final;
    const inDoubt = sure ? answered && this.code === 'INTERNAL' : NO_ANSWER.includes(this.code);
    this.outcomeUnknown = inDoubt;
    const later = this.code === 'UNAVAILABLE' || this.reason === 'RATE_LIMITED'; // 429, too
    this.retryable = sure ? !final && later
      : inDoubt && !this.unparsed;
  }
}

/**
 * Messages are not kept any more, or may be missing as the cursor is of a former epoch or past the end.
 * To continue, follow `resync.position.cursor`. Before another inbox(), mark that as read.
 */
export class CursorLost extends Error {
  override readonly name = 'CursorLost';

  constructor(readonly resync: WaitResync) {
    const { thread, afterSeq } = Cursor.create(resync.requested);
    const reason = WaitResync_Reason[resync.reason] ?? resync.reason;
    const upto = resync.position?.cursor?.afterSeq;
    const why = resync.reason === WaitResync_Reason.REASON_COMPACTED
      ? `messages ${afterSeq + 1} to ${upto} of ${thread} are not kept any more`
      : `${thread} is not what it was at ${afterSeq}`;
    super(`${reason}: ${why}`);
  }

  /** Whether messages are not kept any more. */
  get isCompacted(): boolean {
    return this.resync.reason === WaitResync_Reason.REASON_COMPACTED;
  }
}

/**
 * A reply may not come. After CLOSED and WITHDRAWN none can; otherwise the request is still open, and
 * a later reply answers it.
 */
export class Unanswered extends Error {
  override readonly name = 'Unanswered';

  /**
   * `reason`: AGENT_IDLE, AGENT_LAPSED, AGENT_OFFLINE, AGENT_LEFT or OVERDUE, see Notice_Reason.
   * CLOSED: the thread was closed, or does not keep the question any more. WITHDRAWN: the request
   * was. SESSION_ENDED: that of the agent that asked. `agent`: the agent asked; of several, the last
   * one that was given up. `seq`: of the question.
   */
  constructor(
    readonly reason: string, readonly agent: string, readonly thread: string, readonly seq: number,
  ) {
    super(`no reply to message ${seq} of ${thread}: ${agent} ${reason}`);
  }
}

/** Converts a duration to ms; 0 if it is unset. */
export function milliseconds(duration: Duration | undefined): number {
  return duration ? duration.seconds * 1e3 + duration.nanos / 1e6 : 0;
}

/** Limits a `delay` that the server asked for to a minute. In ms. */
export function heeded(delay: number): number {
  return Math.min(delay, 60_000);
}
