package dev.threadbus.client;

import java.time.Duration;

/**
 * The options of {@link ThreadBus#post} and of the question of {@link ThreadBus#ask}.
 *
 * @param timeout how long the post is retried
 * @param traceparent that of the trace which the post continues, as in W3C's header, version 00, and
 *     in {@code Message.getTraceparent()}. Empty or not valid = the post has none
 */
public record PostOptions(Duration timeout, String traceparent) {
  /** Retries for 30 s, and continues no trace. */
  public static final PostOptions DEFAULT = new PostOptions(Duration.ofSeconds(30), "");

  /** Returns these options with another timeout. */
  public PostOptions withTimeout(Duration timeout) {
    return new PostOptions(timeout, traceparent);
  }

  /** Returns these options with another traceparent. */
  public PostOptions withTraceparent(String traceparent) {
    return new PostOptions(timeout, traceparent);
  }
}
