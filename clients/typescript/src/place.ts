/** The positions of a follow in its threads. */
import { status } from '@grpc/grpc-js';
import {
  type MessageBatch, type WaitMessagesRequest, type WaitMessagesResponse, type WaitResync,
  WaitResync_Reason,
} from '../gen/threadbus/v1/bus_service.js';
import { Cursor, type Message, MessageFilter } from '../gen/threadbus/v1/message.js';
import type { ThreadPosition } from '../gen/threadbus/v1/thread.js';
import { BusError } from './errors.js';

/** A message, with the epoch in which its seq is valid, and what a filter hid before it. */
export type Followed = Message & Pick<Cursor, 'epoch' | 'hiddenSeq'>;

interface Place {
  /** From the server; moves back only by a resync. */
  cursor: Cursor;
  /** Whether seqs may be missing. */
  filtered: boolean;
  /** Left out of the last request's cursors, so the server has started elsewhere. */
  unsent?: boolean;
}

/** What a frame brings. */
interface Taken {
  /** New messages. */
  fresh?: Followed[];
  /** Whether a cursor moved forward, or a thread was added or removed. */
  moved?: boolean;
  /** Whether messages may be missing, by a resync. */
  lost?: boolean;
}

const MOST = 1_000; // cursors in a request

/** Whatever a server sends, take() returns each message of a thread once, in order, or throws. */
export class Places {
  readonly #all: boolean; // of all threads of the agent, which the server may add
  readonly #filtered: boolean;
  readonly #threads = new Map<string, Place>(); // the one that moved last comes last

  constructor({ threads, filter, allMyThreads }: WaitMessagesRequest) {
    this.#all = allMyThreads;
    this.#filtered = filter !== undefined && MessageFilter.encode(filter).finish().length > 0;
    for (const cursor of threads) {
      this.#threads.set(cursor.thread, { cursor, filtered: this.#filtered });
    }
  }

  /**
   * Returns the cursors to resume from, those that moved last if there are too many. The server
   * starts in other threads at the agent's read position.
   */
  cursors(): Cursor[] {
    const unsent = Math.max(0, this.#threads.size - MOST);
    const places = [...this.#threads.values()];
    for (const [index, place] of places.entries()) place.unsent = index < unsent;
    return places.slice(unsent).map(({ cursor }) => cursor);
  }

  /** Moves past a frame. Throws BusError if it violates the contract. */
  take(frame: WaitMessagesResponse): Taken {
    const { messages, caughtUp, keepalive, ending, resync } = frame;
    if (messages) return this.#batch(messages);
    if (this.#all && caughtUp && !caughtUp.cursor) return {};
    if (resync?.reason === WaitResync_Reason.REASON_COMPACTED) {
      const moved = this.#skip(resync);
      return { moved, lost: moved };
    }
    if (resync) {
      this.#put(resync.position, this.#all); // to any position, in any epoch
      return { lost: true };
    }
    if (frame.threadAdded) {
      const moved = !this.#threads.has(frame.threadAdded.cursor?.thread ?? '');
      this.#put(frame.threadAdded, true);
      return { moved };
    }
    if (frame.threadRemoved) {
      return { moved: this.#threads.delete(frame.threadRemoved.thread) };
    }
    const positions = caughtUp ? [caughtUp] : (keepalive ?? ending)?.threads ?? [];
    const moves = positions.map(({ cursor }) => this.#move(cursor));
    return { moved: moves.includes(true) };
  }

  #batch({ cursor, messages }: MessageBatch): Taken {
    const [place, end] = this.#at(cursor);
    const here = place.cursor.afterSeq;
    const { epoch, hiddenSeq: hidden } = end;
    const fresh: Followed[] = [];
    let last = here;
    for (const message of messages) {
      const { seq, thread } = message;
      if (thread !== end.thread) throw broken(`a message of ${thread}, not ${end.thread}`);
      if (seq >= 1 && seq <= here) continue; // already received
      if (seq <= last || seq > end.afterSeq || gap(place, last, seq)) {
        throw broken(`the seq ${seq} after ${last}`);
      }
      last = seq;
      fresh.push({ ...message, epoch, hiddenSeq: hidden <= seq ? hidden : 0 });
    }
    if (gap(place, last, end.afterSeq + 1)) {
      throw broken(`the cursor ${end.afterSeq} after ${last}`);
    }
    return { fresh, moved: this.#advance(place, end) };
  }

  /** Moves to a position further on; returns whether it is. */
  #move(cursor: Cursor | undefined): boolean {
    const [place, end] = this.#at(cursor);
    if (gap(place, place.cursor.afterSeq, end.afterSeq + 1)) {
      throw broken(`the cursor ${end.afterSeq} after ${place.cursor.afterSeq}`);
    }
    return this.#advance(place, end);
  }

  /** Moves past entries that are not kept any more; returns whether the place was before them. */
  #skip({ position, requested }: WaitResync): boolean {
    const [{ cursor: { afterSeq: here }, filtered, unsent }, end] = this.#at(position?.cursor);
    const from = checked(requested, end.thread, requested?.epoch);
    const last = from.afterSeq; // that the server has passed: beyond here, if the filter hides some
    const ours = unsent || last === here || last > here && filtered;
    const same = !from.epoch || from.epoch === end.epoch;
    const { firstSeq } = position!;
    if (!ours || !same || last >= end.afterSeq || end.afterSeq !== firstSeq - 1) {
      throw broken(`a resync from ${last} to ${end.afterSeq}, not from ${here} to before ${firstSeq}`);
    }
    const moved = end.afterSeq > here;
    if (moved) this.#put(position, this.#all);
    return moved;
  }

  /** Starts at a position, in a thread that is new to the follow if it may be. */
  #put(position: ThreadPosition | undefined, mayBeNew: boolean): void {
    const thread = position?.cursor?.thread ?? '';
    if (!mayBeNew && !this.#threads.has(thread)) throw broken(`a cursor of ${thread}`);
    const cursor = checked(position?.cursor, thread);
    this.#threads.delete(thread);
    this.#threads.set(thread, { cursor, filtered: this.#filtered });
  }

  /**
   * Returns the place in the thread of a cursor, and the cursor, checked. In a thread that is new to
   * the follow, it is not known where the server started.
   */
  #at(cursor: Cursor | undefined): [Place, Cursor] {
    const thread = cursor?.thread ?? '';
    const known = this.#threads.get(thread);
    if (!known && !this.#all) throw broken(`a cursor of ${thread}`);
    const end = checked(cursor, thread, known?.cursor.epoch);
    const start = Cursor.create({ thread, epoch: end.epoch });
    return [known ?? { cursor: start, filtered: true }, end];
  }

  #advance(place: Place, end: Cursor): boolean {
    const moved = end.afterSeq > place.cursor.afterSeq;
    if (end.afterSeq >= place.cursor.afterSeq) place.cursor = end;
    this.#threads.delete(end.thread);
    this.#threads.set(end.thread, place);
    return moved;
  }
}

/** Whether messages between the two seqs are missing. */
function gap({ filtered }: Place, last: number, next: number): boolean {
  return !filtered && next > last + 1;
}

/** Returns the cursor if it is valid for the thread and epoch. An empty epoch matches any. */
export function checked(cursor: Cursor | undefined, thread: string, epoch = ''): Cursor {
  if (cursor?.thread !== thread) throw broken(`a cursor of ${cursor?.thread}, not ${thread}`);
  const { afterSeq, hiddenSeq } = cursor;
  if (!isSeq(afterSeq) && afterSeq !== 0 || hiddenSeq < 0 || hiddenSeq > afterSeq) {
    throw broken(`a cursor at ${afterSeq} that hides ${hiddenSeq}`);
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
