package dev.threadbus.client;

import dev.threadbus.v1.AgentServiceGrpc;
import dev.threadbus.v1.BusServiceGrpc;
import dev.threadbus.v1.Cursor;
import dev.threadbus.v1.EndSessionRequest;
import dev.threadbus.v1.HeartbeatRequest;
import dev.threadbus.v1.JoinStart;
import dev.threadbus.v1.JoinThreadRequest;
import dev.threadbus.v1.JoinThreadResponse;
import dev.threadbus.v1.MessageFilter;
import dev.threadbus.v1.PostMessageRequest;
import dev.threadbus.v1.PostMessageResponse;
import dev.threadbus.v1.RegisterAgentRequest;
import dev.threadbus.v1.ThreadServiceGrpc;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.MethodDescriptor;
import java.time.Duration;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;

/**
 * A client of ThreadBus: join a thread, follow it, post to it. Safe for use by many threads; every
 * method blocks until it is done, so virtual threads suit it. A call whose thread is interrupted
 * throws a BusException and leaves the thread's interrupt flag set.
 */
public final class ThreadBus implements AutoCloseable {
  private static final Duration TIMEOUT = Duration.ofSeconds(30); // for a call and its repeats
  private static final Duration BEAT = Duration.ofSeconds(15); // two tries, on two connections

  private final Connection connection;
  private final Set<Follow> follows = ConcurrentHashMap.newKeySet();
  private Thread heartbeats; // null = none are sent

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
    register(agent, null);
  }

  /**
   * Calls as this agent from now on, and says in the background that it is alive. With the same
   * token it is the same agent the next time: a secret, 32–128 of {@code A-Z a-z 0-9 _ -}; null or
   * empty = one made for this run.
   */
  public synchronized void register(String agent, String token) {
    // Made here and not by the server, so that it is safe to repeat.
    String secret = token == null || token.isEmpty() ? UUID.randomUUID().toString() : token;
    call(AgentServiceGrpc.getRegisterAgentMethod(),
        RegisterAgentRequest.newBuilder().setAgent(agent).setToken(secret).build());
    connection.setToken(secret);
    if (heartbeats == null) {
      heartbeats = new Thread(this::sendHeartbeats, "threadbus-heartbeats");
      heartbeats.setDaemon(true); // does not keep the program from ending
      heartbeats.start();
    }
  }

  // Lets go of the lock only between two beats, so that endHeartbeats() waits for one under way.
  private synchronized void sendHeartbeats() {
    try {
      while (heartbeats == Thread.currentThread()) {
        long pause = 1_000; // after a failure; what is wrong, the program's next call tells
        try {
          long interval = milliseconds(connection.call(BusServiceGrpc.getHeartbeatMethod(),
              HeartbeatRequest.getDefaultInstance(), BEAT).getHeartbeatInterval());
          pause = interval > 0 ? interval : 40_000;
        } catch (BusException again) {
          // Soon.
        }
        wait(Math.max(500, Math.min(pause, 3_600_000)));
      }
    } catch (InterruptedException end) {
      // Nobody interrupts this thread but to end it.
    }
  }

  private synchronized void endHeartbeats() {
    heartbeats = null;
    notifyAll();
  }

  /** Enters the thread, made at need; a newcomer hears what is said from now on. */
  public JoinThreadResponse join(String thread) {
    return join(thread, JoinStart.JOIN_START_HEAD);
  }

  /** Enters the thread, made at need; a newcomer begins where {@code start} says. */
  public JoinThreadResponse join(String thread, JoinStart start) {
    JoinThreadResponse response = call(ThreadServiceGrpc.getJoinThreadMethod(), JoinThreadRequest
        .newBuilder().setThread(thread).setCreate(true).setStart(start).build());
    Place.checked(response.getCursor(), thread, "");
    return response;
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
    PostMessageResponse response =
        connection.call(BusServiceGrpc.getPostMessageMethod(), once, timeout);
    if (!Place.isSeq(response.getSeq())) {
      throw BusException.brokenAnswer("the seq " + response.getSeq() + " of a post");
    }
    return response;
  }

  /** The messages of others after {@code cursor}, then what they post. */
  public Follow follow(Cursor cursor) {
    return follow(cursor, MessageFilter.newBuilder().setExcludeOwn(true).build());
  }

  /** What comes after {@code cursor} and passes the filter, then what is posted. */
  public Follow follow(Cursor cursor, MessageFilter filter) {
    return new Follow(follows, connection, cursor, filter);
  }

  /** Tells that everything up to the cursor was read: the next join() goes on from there. */
  public void markRead(Cursor cursor) {
    call(BusServiceGrpc.getHeartbeatMethod(),
        HeartbeatRequest.newBuilder().addReadCursors(cursor).build());
  }

  /** Any unary call, repeated while that is safe. */
  public <Q, A> A call(MethodDescriptor<Q, A> method, Q request) {
    return connection.call(method, request, TIMEOUT);
  }

  /** For the generated stubs: the connection as it is now, with the token of now. */
  public Channel channel() {
    return connection.authorized(connection.channel());
  }

  /**
   * Says goodbye: the agent is OFFLINE at once. Ends its heartbeats and what it follows first, as
   * any later call takes a goodbye back. register() brings the agent back with heartbeats.
   */
  public void goodbye() {
    follows.forEach(Follow::close);
    endHeartbeats();
    call(AgentServiceGrpc.getEndSessionMethod(), EndSessionRequest.getDefaultInstance());
  }

  /** Closes the connection and all that runs on it. Not a goodbye: the agent may come back. */
  @Override
  public void close() {
    connection.close();
    follows.forEach(Follow::close);
    endHeartbeats();
  }

  /** How long that is; the longest is that of protobuf's JSON, 10,000 years. */
  static long milliseconds(com.google.protobuf.Duration duration) {
    long longest = 315_576_000_000L;
    long seconds = Math.max(-longest, Math.min(duration.getSeconds(), longest));
    return seconds * 1_000 + duration.getNanos() / 1_000_000;
  }
}
