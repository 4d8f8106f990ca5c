package dev.threadbus.client;

import dev.threadbus.v1.Cursor;
import dev.threadbus.v1.Message;
import dev.threadbus.v1.MessageBatch;
import dev.threadbus.v1.MessageFilter;
import dev.threadbus.v1.MessageKind;
import dev.threadbus.v1.ThreadPosition;
import dev.threadbus.v1.WaitMessagesResponse;
import java.util.ArrayList;
import java.util.List;

/**
 * The position of a follow in one thread. Whatever a server sends, {@link #take} returns each
 * message of the thread once and in order, or throws.
 */
final class Place {
  private static final long MAX_SEQ = (1L << 53) - 1;

  private final boolean filtered; // with a filter seqs may be missing
  private Cursor cursor; // from the server; moves back only by a resync
  private long firstSeq; // oldest seq kept, as last reported

  Place(Cursor cursor, MessageFilter filter) {
    this.cursor = cursor;
    filtered = filter.getSerializedSize() > 0;
  }

  /** The position after everything that was taken. */
  Cursor cursor() {
    return cursor;
  }

  /** Moves past a frame; returns its new messages. BusException if it violates the contract. */
  List<Message> take(WaitMessagesResponse frame) {
    if (frame.hasResync()) { // to any position, in any epoch
      ThreadPosition there = frame.getResync().getPosition();
      cursor = checked(there.getCursor(), cursor.getThread(), "");
      firstSeq = there.getFirstSeq();
      return List.of();
    }
    positions(frame).forEach(there -> firstSeq = Math.max(firstSeq, there.getFirstSeq()));
    List<Cursor> ends = ends(frame);
    ends.forEach(end -> checked(end, cursor.getThread(), cursor.getEpoch()));
    List<Message> fresh = new ArrayList<>();
    long last = take(frame.getMessages(), fresh);
    for (Cursor end : ends) {
      if (isGap(last, end.getAfterSeq() + 1)) {
        throw BusException.broken("the cursor " + end.getAfterSeq() + " after " + last);
      }
      last = Math.max(last, end.getAfterSeq());
    }
    for (Cursor end : ends) {
      cursor = end.toBuilder().setAfterSeq(last).build();
    }
    return fresh;
  }

  /** Adds the new messages of a batch, and returns the seq of the last. */
  private long take(MessageBatch batch, List<Message> fresh) {
    long last = cursor.getAfterSeq();
    for (Message message : batch.getMessagesList()) {
      long seq = message.getSeq();
      if (!message.getThread().equals(cursor.getThread())) {
        throw BusException.broken(
            "a message of " + message.getThread() + ", not " + cursor.getThread());
      }
      if (seq >= 1 && seq <= cursor.getAfterSeq()) {
        continue; // already received
      }
      if (seq <= last || seq > batch.getCursor().getAfterSeq() || isGap(last, seq)) {
        throw BusException.broken("the seq " + seq + " after " + last);
      }
      last = seq;
      if (message.getKind() != MessageKind.UNRECOGNIZED) { // otherwise a newer kind
        fresh.add(message);
      }
    }
    return last;
  }

  /** Whether messages between the two seqs are missing. */
  private boolean isGap(long last, long next) {
    return !filtered && next > Math.max(last + 1, firstSeq);
  }

  /** Returns the cursor if it is valid for the thread and epoch. An empty epoch matches any. */
  static Cursor checked(Cursor cursor, String thread, String epoch) {
    if (!cursor.getThread().equals(thread)) {
      throw BusException.broken("a cursor of " + cursor.getThread() + ", not " + thread);
    }
    if (cursor.getAfterSeq() != 0 && !isSeq(cursor.getAfterSeq())) {
      throw BusException.broken("a cursor at " + cursor.getAfterSeq());
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

  /** Returns the cursors to resume from after a frame, if it has any. */
  private static List<Cursor> ends(WaitMessagesResponse frame) {
    if (frame.hasMessages()) {
      return List.of(frame.getMessages().getCursor());
    }
    return frame.hasStarted() ? List.of() // has the cursors as requested
        : positions(frame).stream().map(ThreadPosition::getCursor).toList();
  }

  /** Returns the positions in a frame. */
  private static List<ThreadPosition> positions(WaitMessagesResponse frame) {
    return switch (frame.getFrameCase()) {
      case STARTED -> frame.getStarted().getThreadsList();
      case CAUGHT_UP -> List.of(frame.getCaughtUp());
      case KEEPALIVE -> frame.getKeepalive().getThreadsList();
      case ENDING -> frame.getEnding().getThreadsList();
      default -> List.of();
    };
  }
}
