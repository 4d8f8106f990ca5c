package dev.threadbus.client;

import dev.threadbus.v1.Cursor;
import dev.threadbus.v1.WaitResync;

/**
 * Messages are not kept any more, or may be missing as the cursor is of a former epoch of the thread,
 * or past its end.
 */
public final class CursorLostException extends RuntimeException {
  private final WaitResync resync;

  CursorLostException(WaitResync resync) {
    super(resync.getReason() + ": " + reason(resync));
    this.resync = resync;
  }

  private static String reason(WaitResync resync) {
    Cursor from = resync.getRequested();
    return resync.getReason() != WaitResync.Reason.REASON_COMPACTED
        ? "%s is not what it was at %d".formatted(from.getThread(), from.getAfterSeq())
        : "messages %d to %d of %s are not kept any more".formatted(from.getAfterSeq() + 1,
            resync.getPosition().getCursor().getAfterSeq(), from.getThread());
  }

  /** Whether messages are not kept any more. */
  boolean isCompacted() {
    return resync.getReason() == WaitResync.Reason.REASON_COMPACTED;
  }

  /**
   * The reason, the requested cursor, and the position from which following can continue. Before
   * another inbox, mark its cursor as read.
   */
  public WaitResync resync() {
    return resync;
  }
}
