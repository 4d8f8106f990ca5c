package dev.threadbus.client;

import dev.threadbus.v1.PostMessageRequest;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

/** The channel, which is made anew when the server falls silent, and the calls on it. */
final class Connection {
  private static final long ATTEMPT = TimeUnit.SECONDS.toNanos(10);
  private static final Pattern LOCAL = Pattern.compile("(127\\.|localhost:|\\[::1]|unix:).*");
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private final String address;
  private final ChannelCredentials credentials;
  private final CountDownLatch closed = new CountDownLatch(1);
  private ManagedChannel channel;
  private volatile String token;

  Connection(String address, String token, ChannelCredentials credentials) {
    this.address = address;
    this.token = token;
    this.credentials = credentials;
    channel = connect();
  }

  private ManagedChannel connect() {
    var builder = Grpc.newChannelBuilder(address, credentials)
        .keepAliveTime(30, TimeUnit.SECONDS) // by default never; the server takes one every 10 s
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .keepAliveWithoutCalls(true)
        .maxInboundMessageSize(16 << 20); // by default 4 MiB
    if (LOCAL.matcher(address).matches()) {
      builder.proxyDetector(target -> null); // else a proxy set for the JVM takes local calls, too
    }
    return builder.build();
  }

  /**
   * Makes a unary call, and retries it until it succeeds or the timeout is over. Throws BusException.
   * An attempt whose outcome is unknown is retried only if the call is repeatable.
   */
  <Q, A> A call(MethodDescriptor<Q, A> method, Q request, Duration timeout) {
    boolean repeatable = isRepeatable(method, request);
    Text.check(request);
    long until = System.nanoTime() + timeout.toNanos();
    boolean inDoubt = false;
    for (int failures = 0;; failures++) {
      ManagedChannel used = channel();
      long left = Math.min(until - System.nanoTime(), ATTEMPT);
      BusException error;
      try {
        return ClientCalls.blockingUnaryCall(authorized(used), method,
            CallOptions.DEFAULT.withDeadlineAfter(left, TimeUnit.NANOSECONDS), request);
      } catch (StatusRuntimeException failure) {
        error = new BusException(failure, inDoubt);
      }
      inDoubt = error.outcomeUnknown();
      boolean again = error.retryable() && (repeatable || !error.outcomeUnknown());
      long pause = Math.max(backoff(failures), heeded(error.retryDelay().toMillis()));
      if (!again || System.nanoTime() + pause * 1_000_000 >= until || !pause(pause)) {
        throw error;
      }
      if (error.code() == Status.Code.DEADLINE_EXCEEDED) {
        renew(used);
      }
      connectNow();
    }
  }

  /** Whether the contract gives the method an idempotency level, or the request has an id. */
  private static boolean isRepeatable(MethodDescriptor<?, ?> method, Object request) {
    boolean named = request instanceof PostMessageRequest post && !post.getRequestId().isEmpty();
    return named || method.isIdempotent() || method.isSafe(); // as the stubs have it of the level
  }

  synchronized ManagedChannel channel() {
    return channel;
  }

  /** The channel, with the token as it is now in each call's metadata; it checks texts. */
  Channel authorized(ManagedChannel channel) {
    Metadata headers = new Metadata();
    if (!token.isEmpty()) {
      headers.put(AUTHORIZATION, "Bearer " + token);
    }
    return ClientInterceptors.intercept(channel, Text.CHECKED,
        MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  void setToken(String token) {
    this.token = token;
  }

  /** Makes another channel: keepalives find a dead connection, too, but not as soon. */
  synchronized void renew(ManagedChannel silent) {
    if (channel == silent && !isClosed()) {
      channel = connect();
      silent.shutdown(); // calls under way on it go on
    }
  }

  /**
   * Ends grpc-java's own pause before the next connect, which grows to 120 s and cannot be set. Who
   * comes again has paused already, for 2 s at most. That is also why waits are not wait-for-ready
   * here: they would sit that pause out.
   */
  void connectNow() {
    channel().resetConnectBackoff();
  }

  boolean isClosed() {
    return closed.getCount() == 0;
  }

  synchronized void close() {
    closed.countDown();
    channel.shutdownNow();
  }

  /** Milliseconds to pause after so many failures in a row. */
  static long backoff(int failures) {
    double longest = Math.min(2_000, 50 * Math.pow(2, failures));
    return (long) (longest * ThreadLocalRandom.current().nextDouble(0.5, 1));
  }

  /** Milliseconds to pause when the server asks for so long: a minute at most. */
  static long heeded(long asked) {
    return Math.min(asked, 60_000);
  }

  /** Whether to come again: not when the client is closed or the thread interrupted. */
  private boolean pause(long milliseconds) {
    try {
      return !closed.await(milliseconds, TimeUnit.MILLISECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      return false;
    }
  }
}
