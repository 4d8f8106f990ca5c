package dev.threadbus.client;

import dev.threadbus.v1.Cursor;
import dev.threadbus.v1.Message;
import dev.threadbus.v1.MessageBatch;
import dev.threadbus.v1.ThreadPosition;
import dev.threadbus.v1.WaitMessagesRequest;
import dev.threadbus.v1.WaitMessagesResponse;
import dev.threadbus.v1.WaitResync;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The positions of a follow in its threads. Whatever a server sends, {@link #take} returns each
 * message of a thread once and in order, or throws.
 */
final class Places {
  private static final long MAX_SEQ = (1L << 53) - 1;
  private static final int MAX_CURSORS = 1_000; // in a request
  private static final Taken NOTHING = new Taken(List.of(), false, false);

  private final boolean all; // of all threads of the agent, which the server may add
  private final boolean filtered; // with a filter seqs may be missing
  private final Map<String, Place> threads = new LinkedHashMap<>(); // the last to move comes last

  /**
   * The new messages of a frame; whether a cursor moved forward, or a thread was added or removed;
   * and whether messages may be missing, by a resync.
   */
  record Taken(List<Message> fresh, boolean moved, boolean lost) {
    private static Taken moved(boolean moved) {
      return new Taken(List.of(), moved, false);
    }
  }

  /** The position in one thread. */
  private static final class Place {
    private final boolean filtered;
    private Cursor cursor; // from the server; moves back only by a resync
    private boolean unsent; // left out of cursors(), so the server has started elsewhere

    Place(Cursor cursor, boolean filtered) {
      this.cursor = cursor;
      this.filtered = filtered;
    }

    /** Whether messages between the two seqs are missing. */
    boolean isGap(long last, long next) {
      return !filtered && next > last + 1;
    }
  }

  Places(WaitMessagesRequest request) {
    all = request.getAllMyThreads();
    filtered = request.getFilter().getSerializedSize() > 0;
    for (Cursor cursor : request.getThreadsList()) {
      threads.put(cursor.getThread(), new Place(cursor, filtered));
    }
  }

  /**
   * Returns the cursors to resume from, those that moved last if there are too many. The server
   * starts in other threads at the agent's read position.
   */
  List<Cursor> cursors() {
    int unsent = Math.max(0, threads.size() - MAX_CURSORS);
    int index = 0;
    for (Place place : threads.values()) {
      place.unsent = index++ < unsent;
    }
    return threads.values().stream().skip(unsent).map(place -> place.cursor).toList();
  }

  /** Returns the position in the same thread after everything that was taken, or the cursor. */
  Cursor latest(Cursor cursor) {
    Place place = threads.get(cursor.getThread());
    return place == null ? cursor : place.cursor;
  }

  /** Returns the position after a message that {@link #take} returned last. */
  Cursor after(Message message) {
    Cursor.Builder after = threads.get(message.getThread()).cursor.toBuilder();
    if (after.getHiddenSeq() > message.getSeq()) {
      after.clearHiddenSeq(); // the filter hid nothing before the message
    }
    return after.setAfterSeq(message.getSeq()).build();
  }

  /** Moves past a frame. Throws BusException if it violates the contract. */
  Taken take(WaitMessagesResponse frame) {
    Taken taken = NOTHING;
    switch (frame.getFrameCase()) {
      case MESSAGES -> taken = take(frame.getMessages());
      case CAUGHT_UP -> {
        ThreadPosition there = frame.getCaughtUp();
        boolean everywhere = all && !there.hasCursor();
        taken = everywhere ? NOTHING : move(List.of(there));
      }
      case KEEPALIVE -> taken = move(frame.getKeepalive().getThreadsList());
      case ENDING -> taken = move(frame.getEnding().getThreadsList());
      case RESYNC -> taken = take(frame.getResync());
      case THREAD_ADDED -> {
        boolean known = threads.containsKey(frame.getThreadAdded().getCursor().getThread());
        put(frame.getThreadAdded());
        taken = Taken.moved(!known);
      }
      case THREAD_REMOVED -> {
        boolean known = threads.remove(frame.getThreadRemoved().getThread()) != null;
        taken = Taken.moved(known);
      }
      default -> { } // `started`, which has the cursors as requested, or a newer frame
    }
    return taken;
  }

  private Taken take(MessageBatch batch) {
    Cursor end = batch.getCursor();
    Place place = placeOf(end);
    long here = place.cursor.getAfterSeq();
    long last = here;
    List<Message> fresh = new ArrayList<>();
    for (Message message : batch.getMessagesList()) {
      long seq = message.getSeq();
      if (!message.getThread().equals(end.getThread())) {
        throw BusException.broken(
            "a message of " + message.getThread() + ", not " + end.getThread());
      }
      if (seq >= 1 && seq <= here) {
        continue; // already received
      }
      if (seq <= last || seq > end.getAfterSeq() || place.isGap(last, seq)) {
        throw BusException.broken("the seq " + seq + " after " + last);
      }
      last = seq;
      fresh.add(message);
    }
    return new Taken(fresh, advance(place, last, end), false);
  }

  private Taken move(List<ThreadPosition> positions) {
    boolean moved = false;
    for (ThreadPosition there : positions) {
      Place place = placeOf(there.getCursor());
      moved |= advance(place, place.cursor.getAfterSeq(), there.getCursor());
    }
    return Taken.moved(moved);
  }

  private Taken take(WaitResync resync) {
    if (resync.getReason() != WaitResync.Reason.REASON_COMPACTED) {
      put(resync.getPosition()); // any position, in any epoch
      return new Taken(List.of(), false, true);
    }
    boolean moved = skip(resync);
    return new Taken(List.of(), moved, moved);
  }

  /** Moves past entries that are not kept any more. Returns whether the place was before them. */
  private boolean skip(WaitResync resync) {
    Cursor end = resync.getPosition().getCursor();
    Place place = placeOf(end);
    Cursor from = resync.getRequested();
    checked(from, end.getThread(), from.getEpoch());
    long here = place.cursor.getAfterSeq();
    // What the server has passed: it is beyond here if the filter hides some.
    long last = from.getAfterSeq();
    boolean ours = place.unsent || last == here || last > here && place.filtered;
    boolean same = from.getEpoch().isEmpty() || from.getEpoch().equals(end.getEpoch());
    long first = resync.getPosition().getFirstSeq();
    if (!ours || !same || last >= end.getAfterSeq() || end.getAfterSeq() != first - 1) {
      throw BusException.broken("a resync from " + last + " to " + end.getAfterSeq() + ", not from "
          + here + " to before " + first);
    }
    boolean moved = end.getAfterSeq() > here;
    if (moved) {
      put(resync.getPosition());
    }
    return moved;
  }

  /** Moves to a cursor, unless it is behind. Returns whether it moved forward. */
  private boolean advance(Place place, long last, Cursor end) {
    if (place.isGap(last, end.getAfterSeq() + 1)) {
      throw BusException.broken("the cursor " + end.getAfterSeq() + " after " + last);
    }
    long before = place.cursor.getAfterSeq();
    if (end.getAfterSeq() >= before) {
      place.cursor = end;
      threads.remove(end.getThread());
      threads.put(end.getThread(), place);
    }
    return end.getAfterSeq() > before;
  }

  /** Restarts at a position. */
  private void put(ThreadPosition there) {
    Cursor cursor = there.getCursor();
    checkFollowed(cursor);
    checked(cursor, cursor.getThread(), "");
    threads.remove(cursor.getThread());
    threads.put(cursor.getThread(), new Place(cursor, filtered));
  }

  /**
   * Returns the place in the thread of a cursor, which it checks. Where the server started in a
   * thread that is new to the follow is not known.
   */
  private Place placeOf(Cursor cursor) {
    checkFollowed(cursor);
    Place place = threads.get(cursor.getThread());
    checked(cursor, cursor.getThread(), place == null ? "" : place.cursor.getEpoch());
    return place != null ? place
        : new Place(cursor.toBuilder().clearAfterSeq().clearHiddenSeq().build(), true);
  }

  private void checkFollowed(Cursor cursor) {
    if (!all && !threads.containsKey(cursor.getThread())) {
      throw BusException.broken("a cursor of " + cursor.getThread() + ", which is not followed");
    }
  }

  /** Returns the cursor if it is valid for the thread and epoch. An empty epoch matches any. */
  static Cursor checked(Cursor cursor, String thread, String epoch) {
    long at = cursor.getAfterSeq();
    long hidden = cursor.getHiddenSeq();
    if (!cursor.getThread().equals(thread)) {
      throw BusException.broken("a cursor of " + cursor.getThread() + ", not " + thread);
    }
    if (at != 0 && !isSeq(at) || hidden < 0 || hidden > at) {
      throw BusException.broken("a cursor at " + at + " that hides " + hidden);
    }
    if (!epoch.isEmpty() && !cursor.getEpoch().equals(epoch)) {
      throw BusException.broken(
          "the epoch " + cursor.getEpoch() + " of " + thread + ", not " + epoch);
    }
    return cursor;
  }

  static boolean isSeq(long seq) {
    return seq >= 1 && seq <= MAX_SEQ;
  }
}
