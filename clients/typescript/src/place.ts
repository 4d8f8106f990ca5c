/** The position of a follow in one thread. */
import { status } from '@grpc/grpc-js';
import type { WaitMessagesRequest, WaitMessagesResponse }
  from '../gen/threadbus/v1/bus_service.js';
import { Cursor, type Message, MessageFilter, MessageKind }
  from '../gen/threadbus/v1/message.js';
import type { ThreadPosition } from '../gen/threadbus/v1/thread.js';
import { BusError } from './errors.js';

/** Whatever a server sends, take() returns each message of the thread once, in order, or throws. */
export class Place {
  /** From the server; moves back only by a resync. */
  cursor: Cursor;
  readonly #filtered: boolean; // with a filter seqs may be missing
  #firstSeq = 0; // oldest seq kept, as last reported

  constructor({ threads, filter }: WaitMessagesRequest) {
    this.cursor = threads[0]!;
    this.#filtered = filter !== undefined && MessageFilter.encode(filter).finish().length > 0;
  }

  /** Moves past a frame; returns its new messages. Throws BusError if it violates the contract. */
  take(frame: WaitMessagesResponse): Message[] {
    const { thread, afterSeq: here, epoch } = this.cursor;
    if (frame.resync) { // to any position, in any epoch
      const { position } = frame.resync;
      this.cursor = checked(position?.cursor, thread);
      this.#firstSeq = position!.firstSeq;
      return [];
    }
    for (const { firstSeq } of positions(frame)) {
      this.#firstSeq = Math.max(this.#firstSeq, firstSeq);
    }
    const ends = cursors(frame).map((cursor) => checked(cursor, thread, epoch));
    const fresh: Message[] = [];
    let last = here;
    for (const message of frame.messages?.messages ?? []) {
      const { seq } = message;
      if (message.thread !== thread) throw broken(`a message of ${message.thread}, not ${thread}`);
      if (seq >= 1 && seq <= here) continue; // already received
      if (seq <= last || seq > ends[0]!.afterSeq || this.#gap(last, seq)) {
        throw broken(`the seq ${seq} after ${last}`);
      }
      last = seq;
      if (message.kind in MessageKind) fresh.push(message); // otherwise a newer kind
    }
    for (const { afterSeq } of ends) {
      if (this.#gap(last, afterSeq + 1)) throw broken(`the cursor ${afterSeq} after ${last}`);
      last = Math.max(last, afterSeq);
    }
    for (const end of ends) this.cursor = { ...end, afterSeq: last };
    return fresh;
  }

  /** Whether messages between the two seqs are missing. */
  #gap(last: number, next: number): boolean {
    return !this.#filtered && next > Math.max(last + 1, this.#firstSeq);
  }
}

/** Returns the cursor if it is valid for the thread and epoch. An empty epoch matches any. */
export function checked(cursor: Cursor | undefined, thread: string, epoch = ''): Cursor {
  if (cursor?.thread !== thread) throw broken(`a cursor of ${cursor?.thread}, not ${thread}`);
  if (!isSeq(cursor.afterSeq) && cursor.afterSeq !== 0) {
    throw broken(`a cursor at ${cursor.afterSeq}`);
  }
  if (epoch && cursor.epoch !== epoch) {
    throw broken(`the epoch ${cursor.epoch} of ${thread}, not ${epoch}`);
  }
  return cursor;
}

export const isSeq = (seq: number) => seq >= 1 && seq <= Number.MAX_SAFE_INTEGER;

/** Returns the error for a violation of the contract. */
export function broken(sent: string): BusError {
  return BusError.certain(status.INTERNAL, `the server sent ${sent}`);
}

/** Returns the cursors to resume from after a frame, if it has any. */
function cursors(frame: WaitMessagesResponse): (Cursor | undefined)[] {
  if (frame.messages) return [frame.messages.cursor];
  return frame.started ? [] : positions(frame).map(({ cursor }) => cursor);
}

/** Returns the positions in a frame. */
function positions(frame: WaitMessagesResponse): ThreadPosition[] {
  const { started, caughtUp, keepalive, ending } = frame;
  return caughtUp ? [caughtUp] : (started ?? keepalive ?? ending)?.threads ?? [];
}
