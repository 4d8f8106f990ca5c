package dev.threadbus.client;

import dev.threadbus.v1.BusServiceGrpc;
import dev.threadbus.v1.GetServerInfoRequest;
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

/** The channel, which is replaced when the server stops responding, and the calls on it. */
final class Connection {
  private static final long ATTEMPT = TimeUnit.SECONDS.toNanos(10);
  /** Matches grpc-java's text for a connection that the server closed before it responded. */
  private static final Pattern CLOSED_EARLY =
      Pattern.compile("^Network closed|Connection reset|Broken pipe");
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> TRACEPARENT =
      Metadata.Key.of("traceparent", Metadata.ASCII_STRING_MARSHALLER);
  private static final Pattern TRACEPARENT_FORM =
      Pattern.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}");

  private final Address address;
  private final ChannelCredentials credentials;
  private final CountDownLatch closed = new CountDownLatch(1);
  private ManagedChannel channel;
  private volatile String token;
  private volatile String agent; // whose token it is; null = not known yet
  private volatile boolean answered; // whether the server has responded to any call

  Connection(Address address, String token, ChannelCredentials credentials) {
    this.address = address;
    this.token = token;
    this.credentials = credentials;
    channel = connect();
  }

  private ManagedChannel connect() {
    var builder = Grpc.newChannelBuilder(address.endpoint(), credentials)
        .keepAliveTime(30, TimeUnit.SECONDS) // off by default; the server allows one every 10 s
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .keepAliveWithoutCalls(true)
        .maxInboundMessageSize(16 << 20); // default: 4 MiB
    if (address.local()) {
      builder.proxyDetector(target -> null); // otherwise local calls would use the JVM's proxy
    }
    return builder.build();
  }

  /**
   * Makes a unary call, and retries it until it succeeds or the timeout is over. Throws BusException.
   * An attempt whose outcome is unknown is retried only if the call is repeatable.
   */
  <Q, A> A call(MethodDescriptor<Q, A> method, Q request, Duration timeout) {
    return call(method, request, timeout, "");
  }

  /** As above, with a traceparent, unless it is not valid. */
  <Q, A> A call(
      MethodDescriptor<Q, A> method, Q request, Duration timeout, String traceparent) {
    boolean repeatable = isRepeatable(method, request);
    Text.check(request);
    long until = System.nanoTime() + timeout.toNanos();
    boolean inDoubt = false;
    for (int failures = 0;; failures++) {
      ManagedChannel used = channel();
      long left = Math.min(until - System.nanoTime(), ATTEMPT);
      BusException error;
      try {
        A response = ClientCalls.blockingUnaryCall(authorized(used, traceparent), method,
            CallOptions.DEFAULT.withDeadlineAfter(left, TimeUnit.NANOSECONDS), request);
        answered = true;
        return response;
      } catch (StatusRuntimeException failure) {
        error = told(failure, inDoubt);
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

  /**
   * Returns the exception for a failed call. Until the server has responded to one, it may expect
   * TLS or a client certificate, and grpc-java says only that the connection is closed.
   */
  BusException told(Exception failure, boolean inDoubt) {
    BusException error = new BusException(failure, inDoubt);
    if (!error.reason().isEmpty()) {
      answered = true;
    }
    if (answered || !CLOSED_EARLY.matcher(error.getMessage()).find()) {
      return error;
    }
    return new BusException(error.code().toStatus().withDescription(error.getMessage()
        + ": the server closes the connection; it may use TLS (tls://HOST:PORT), or require a "
        + "client certificate").asRuntimeException(), inDoubt);
  }

  void setAnswered() {
    answered = true;
  }

  boolean isAnswered() {
    return answered;
  }

  /** Whether the method has an idempotency level, or the request a request_id. */
  private static boolean isRepeatable(MethodDescriptor<?, ?> method, Object request) {
    boolean named = request instanceof PostMessageRequest post && !post.getRequestId().isEmpty();
    return named || method.isIdempotent() || method.isSafe(); // set by the stubs from the level
  }

  synchronized ManagedChannel channel() {
    return channel;
  }

  /** Wraps a channel to send the current token with each call, and to refuse invalid text. */
  Channel authorized(ManagedChannel channel) {
    return authorized(channel, "");
  }

  private Channel authorized(ManagedChannel channel, String traceparent) {
    Metadata headers = new Metadata();
    if (!token.isEmpty()) {
      headers.put(AUTHORIZATION, "Bearer " + token);
    }
    if (TRACEPARENT_FORM.matcher(traceparent).matches()) {
      headers.put(TRACEPARENT, traceparent);
    }
    return ClientInterceptors.intercept(channel, Text.CHECKED,
        MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  void setAgent(String agent, String token) {
    this.token = token;
    this.agent = agent;
  }

  /** Returns the agent's name, which it asks the server for if needed. Throws BusException. */
  String agent() {
    if (agent == null) {
      agent = call(BusServiceGrpc.getGetServerInfoMethod(),
          GetServerInfoRequest.getDefaultInstance(), Duration.ofNanos(ATTEMPT)).getAgent();
    }
    return agent;
  }

  /** Replaces a silent channel, as keepalives would detect a dead connection too late. */
  synchronized void renew(ManagedChannel silent) {
    if (channel == silent && !isClosed()) {
      channel = connect();
      silent.shutdown(); // running calls on it continue
    }
  }

  /**
   * Ends grpc-java's own pause before reconnecting, which grows to 120 s and cannot be configured.
   * Callers have already paused, for at most 2 s. Waits do not use wait-for-ready for the same
   * reason: they would wait for that pause.
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

  /** Returns the pause after this many consecutive failures, in milliseconds. */
  static long backoff(int failures) {
    double longest = Math.min(2_000, 50 * Math.pow(2, failures));
    return (long) (longest * ThreadLocalRandom.current().nextDouble(0.5, 1));
  }

  /** Limits a delay that the server asked for to a minute. In milliseconds. */
  static long heeded(long asked) {
    return Math.min(asked, 60_000);
  }

  /** Pauses. Returns false if the client is closed or the thread interrupted. */
  private boolean pause(long milliseconds) {
    try {
      return !closed.await(milliseconds, TimeUnit.MILLISECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      return false;
    }
  }
}
