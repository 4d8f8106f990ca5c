package dev.threadbus.client;

import dev.threadbus.v1.AgentServiceGrpc;
import dev.threadbus.v1.BusServiceGrpc;
import dev.threadbus.v1.Cursor;
import dev.threadbus.v1.EndSessionRequest;
import dev.threadbus.v1.HeartbeatRequest;
import dev.threadbus.v1.HeartbeatResponse;
import dev.threadbus.v1.JoinStart;
import dev.threadbus.v1.JoinThreadRequest;
import dev.threadbus.v1.JoinThreadResponse;
import dev.threadbus.v1.PostMessageRequest;
import dev.threadbus.v1.PostMessageResponse;
import dev.threadbus.v1.RegisterAgentRequest;
import dev.threadbus.v1.ThreadServiceGrpc;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.stub.ClientCalls;
import java.security.SecureRandom;
import java.time.Duration;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * A client of ThreadBus: join a thread, follow it, post to it. Safe for use by many threads; every
 * method blocks until it is done, so virtual threads suit it. An interrupted call throws a
 * BusException of code CANCELLED and leaves the thread's interrupt flag set.
 */
public final class ThreadBus implements AutoCloseable {
  private static final Duration TIMEOUT = Duration.ofSeconds(30); // for a call and its repeats
  private static final Duration ATTEMPT = Duration.ofSeconds(10); // for one try
  private static final int READ_CURSORS = 1_000; // of one heartbeat
  /** Done twice is not done once: repeated only when the server says that nothing was done. */
  private static final Set<String> NOT_TWICE = Set.of("PostMessage", "CreateThread",
      "SetThreadState", "DeleteThread", "UnregisterAgent", "RotateToken");

  private final Connection connection;
  private final Map<String, Cursor> read = new ConcurrentHashMap<>(); // and not yet reported
  private final Set<Follow> follows = ConcurrentHashMap.newKeySet();
  private Heartbeats heartbeats;

  private ThreadBus(String address, String token, ChannelCredentials credentials) {
    connection = new Connection(address, token, credentials);
  }

  /** A client of the server at HOST:PORT (on Linux unix:PATH, too). Connects when first used. */
  public static ThreadBus connect(String address) {
    return connect(address, "");
  }

  /** A client that calls with {@code token}. */
  public static ThreadBus connect(String address, String token) {
    return connect(address, token, InsecureChannelCredentials.create());
  }

  /** A client with, say, {@code TlsChannelCredentials.create()}. */
  public static ThreadBus connect(String address, String token, ChannelCredentials credentials) {
    return new ThreadBus(address, token, credentials);
  }

  /** Registers with a token made for this run. The name cannot be used again without it. */
  public void register(String agent) {
    byte[] secret = new byte[32];
    new SecureRandom().nextBytes(secret);
    register(agent, Base64.getUrlEncoder().withoutPadding().encodeToString(secret));
  }

  /**
   * Calls as this agent from now on, and says in the background that it is alive. With the same
   * token it is the same agent the next time: a secret, 32–128 of {@code A-Z a-z 0-9 _ -}.
   */
  public synchronized void register(String agent, String token) {
    call(AgentServiceGrpc.getRegisterAgentMethod(),
        RegisterAgentRequest.newBuilder().setAgent(agent).setToken(token).build());
    connection.setToken(token);
    if (heartbeats == null) {
      heartbeats = new Heartbeats(this);
    }
  }

  /** Enters the thread, made at need; a newcomer hears what is said from now on. */
  public JoinThreadResponse join(String thread) {
    return join(thread, JoinStart.JOIN_START_HEAD);
  }

  /** Enters the thread, made at need; a newcomer begins where {@code start} says. */
  public JoinThreadResponse join(String thread, JoinStart start) {
    return call(ThreadServiceGrpc.getJoinThreadMethod(), JoinThreadRequest.newBuilder()
        .setThread(thread).setCreate(true).setStart(start).build());
  }

  /** Posts once, however often it has to be sent. */
  public PostMessageResponse post(String thread, String content) {
    return post(PostMessageRequest.newBuilder().setThread(thread).setContent(content).build());
  }

  /** Posts once, however often it has to be sent; a request_id is made when there is none. */
  public PostMessageResponse post(PostMessageRequest request) {
    return post(request, TIMEOUT);
  }

  /** Posts, and tries again until {@code timeout} is over. */
  public PostMessageResponse post(PostMessageRequest request, Duration timeout) {
    PostMessageRequest once = request.getRequestId().isEmpty()
        ? request.toBuilder().setRequestId(UUID.randomUUID().toString()).build() : request;
    return repeat(BusServiceGrpc.getPostMessageMethod(), once, timeout, true);
  }

  /** The messages of others after {@code cursor}, then what they post. */
  public Follow follow(Cursor cursor) {
    return follow(cursor, Follow.Options.DEFAULT);
  }

  /** What comes after {@code cursor}, then what is posted. */
  public Follow follow(Cursor cursor, Follow.Options options) {
    Follow follow = new Follow(this, connection, cursor, options);
    follows.add(follow);
    if (connection.isClosed()) {
      follow.close();
    }
    return follow;
  }

  /** Tells that everything up to the cursor was read: the next join() goes on from there. */
  public void markRead(Cursor cursor) {
    read.put(cursor.getThread(), cursor); // what fails now goes with the next heartbeat
    heartbeat(TIMEOUT);
  }

  /** Any unary call: {@code call(BusServiceGrpc.getListMessagesMethod(), request)}. */
  public <Q, A> A call(MethodDescriptor<Q, A> method, Q request) {
    return call(method, request, TIMEOUT);
  }

  /** Any unary call, repeated while that is safe and until {@code timeout} is over. */
  public <Q, A> A call(MethodDescriptor<Q, A> method, Q request, Duration timeout) {
    return repeat(method, request, timeout, !NOT_TWICE.contains(method.getBareMethodName()));
  }

  /** For the generated stubs: the connection as it is now, with the token of now. */
  public Channel channel() {
    return connection.authorized(connection.channel());
  }

  /** Ends the session: the agent is OFFLINE at once, and what it follows ends. */
  public synchronized void goodbye() {
    if (heartbeats != null) {
      heartbeats.stop();
      heartbeats = null;
    }
    call(AgentServiceGrpc.getEndSessionMethod(), EndSessionRequest.getDefaultInstance());
  }

  /** Closes the connection and all that runs on it. Not a goodbye: the agent may come back. */
  @Override
  public void close() {
    connection.close();
    follows.forEach(Follow::close);
    synchronized (this) {
      if (heartbeats != null) {
        heartbeats.stop();
      }
    }
  }

  private <Q, A> A repeat(MethodDescriptor<Q, A> method, Q request, Duration timeout,
      boolean safe) {
    long until = System.nanoTime() + timeout.toNanos();
    boolean inDoubt = false;
    for (int failures = 0;; failures++) {
      ManagedChannel channel = connection.channel();
      long left = Math.min(until - System.nanoTime(), ATTEMPT.toNanos());
      CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(left, TimeUnit.NANOSECONDS);
      Future<A> answer = ClientCalls.futureUnaryCall(
          connection.authorized(channel).newCall(method, options), request);
      BusException error;
      try {
        return answer.get();
      } catch (ExecutionException failure) {
        error = new BusException(failure.getCause());
      } catch (InterruptedException interrupted) {
        answer.cancel(true);
        throw interrupted();
      }
      inDoubt |= error.outcomeUnknown();
      if (inDoubt && error.retryable()) { // a refusal says that it was not done before, either
        error.inDoubt();
      }
      boolean again = error.retryable() && (safe || !error.reason().isEmpty())
          && !connection.isClosed();
      long pause = Math.max(backoff(failures), error.retryDelay().toMillis());
      if (!again || System.nanoTime() + pause * 1_000_000 >= until) {
        throw error;
      }
      try {
        Thread.sleep(pause);
      } catch (InterruptedException interrupted) {
        throw interrupted();
      }
      if (error.code() == Status.Code.DEADLINE_EXCEEDED) {
        connection.renew(channel);
      }
      connection.connectNow();
    }
  }

  private static BusException interrupted() {
    Thread.currentThread().interrupt();
    return new BusException(Status.CANCELLED.withDescription("interrupted").asRuntimeException());
  }

  HeartbeatResponse heartbeat(Duration timeout) {
    List<Cursor> cursors = read.values().stream().limit(READ_CURSORS).toList();
    HeartbeatRequest request = HeartbeatRequest.newBuilder().addAllReadCursors(cursors).build();
    boolean told = true;
    try {
      return call(BusServiceGrpc.getHeartbeatMethod(), request, timeout);
    } catch (BusException error) {
      told = !error.retryable(); // what was refused would be refused for ever
      throw error;
    } finally {
      if (told) {
        cursors.forEach(cursor -> read.remove(cursor.getThread(), cursor)); // but not a newer one
      }
    }
  }

  void forget(Follow follow) {
    follows.remove(follow);
  }

  /** Milliseconds to pause after so many failures in a row. */
  static long backoff(int failures) {
    double longest = Math.min(2_000, 50 * Math.pow(2, failures));
    return (long) (longest * ThreadLocalRandom.current().nextDouble(0.5, 1));
  }

  static Duration duration(com.google.protobuf.Duration duration) {
    return Duration.ofSeconds(duration.getSeconds(), duration.getNanos());
  }

  static com.google.protobuf.Duration duration(Duration duration) {
    return com.google.protobuf.Duration.newBuilder()
        .setSeconds(duration.getSeconds()).setNanos(duration.getNano()).build();
  }
}
