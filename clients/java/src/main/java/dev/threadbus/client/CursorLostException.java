package dev.threadbus.client;

import dev.threadbus.v1.WaitResync;

/** The cursor is of a former epoch of the thread, or past its end: messages may be missing. */
public final class CursorLostException extends RuntimeException {
  private final WaitResync resync;

  CursorLostException(WaitResync resync) {
    super("%s: %s is not what it was at %d".formatted(resync.getReason(),
        resync.getRequested().getThread(), resync.getRequested().getAfterSeq()));
    this.resync = resync;
  }

  /** The reason, the requested cursor, and the position from which following can continue. */
  public WaitResync resync() {
    return resync;
  }
}
