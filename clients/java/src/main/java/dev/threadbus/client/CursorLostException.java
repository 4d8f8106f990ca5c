package dev.threadbus.client;

import dev.threadbus.v1.WaitResync;

/** The cursor is of another history of the thread. */
public final class CursorLostException extends RuntimeException {
  private final WaitResync resync;

  CursorLostException(WaitResync resync) {
    super("%s: %s is not what it was at %d".formatted(resync.getReason(),
        resync.getRequested().getThread(), resync.getRequested().getAfterSeq()));
    this.resync = resync;
  }

  /** Why, which cursor, and the position from which a new follow goes on. */
  public WaitResync resync() {
    return resync;
  }
}
