package dev.threadbus.client;

/**
 * A reply may not come. After CLOSED and WITHDRAWN none can; otherwise the request is still open,
 * and a later reply answers it.
 */
public final class UnansweredException extends RuntimeException {
  private final String reason;
  private final String agent;
  private final String thread;
  private final long seq;

  UnansweredException(String reason, String agent, String thread, long seq) {
    super("no reply to message %d of %s: %s %s".formatted(seq, thread, agent, reason));
    this.reason = reason;
    this.agent = agent;
    this.thread = thread;
    this.seq = seq;
  }

  /**
   * AGENT_IDLE, AGENT_LAPSED, AGENT_OFFLINE, AGENT_LEFT or OVERDUE: see Notice.Reason. CLOSED: the
   * thread was closed, or does not keep the question any more. WITHDRAWN: the request was.
   * SESSION_ENDED: that of the agent that asked.
   */
  public String reason() {
    return reason;
  }

  /** The agent asked; of several, the last one that was given up. */
  public String agent() {
    return agent;
  }

  /** The thread of the question. */
  public String thread() {
    return thread;
  }

  /** The seq of the question. */
  public long seq() {
    return seq;
  }
}
