package dev.threadbus.client;

import dev.threadbus.v1.AgentServiceGrpc;
import dev.threadbus.v1.BusServiceGrpc;
import dev.threadbus.v1.Cursor;
import dev.threadbus.v1.EndSessionRequest;
import dev.threadbus.v1.ExpectReply;
import dev.threadbus.v1.HeartbeatRequest;
import dev.threadbus.v1.JoinStart;
import dev.threadbus.v1.JoinThreadRequest;
import dev.threadbus.v1.JoinThreadResponse;
import dev.threadbus.v1.Message;
import dev.threadbus.v1.MessageFilter;
import dev.threadbus.v1.PostMessageRequest;
import dev.threadbus.v1.PostMessageResponse;
import dev.threadbus.v1.RegisterAgentRequest;
import dev.threadbus.v1.ThreadServiceGrpc;
import dev.threadbus.v1.WaitMessagesRequest;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.MethodDescriptor;
import java.time.Duration;
import java.util.Objects;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;

/**
 * A client of ThreadBus: join a thread, follow it, post to it. Thread-safe. Every method blocks
 * until it is done, and suits virtual threads. Calls throw {@link BusException}; if the thread is
 * interrupted, its interrupt flag stays set.
 */
public final class ThreadBus implements AutoCloseable {
  private static final Duration TIMEOUT = Duration.ofSeconds(30); // for a call with its retries
  private static final Duration BEAT = Duration.ofSeconds(15); // two attempts, on two connections
  private static final MessageFilter OTHERS =
      MessageFilter.newBuilder().setExcludeOwn(true).build();
  private static final MessageFilter ADDRESSED = OTHERS.toBuilder().setAddressedToMe(true).build();

  private final Connection connection;
  private final Set<Follow> follows = ConcurrentHashMap.newKeySet();
  private Thread heartbeats; // null = none are sent

  private ThreadBus(Address address, String token, ChannelCredentials credentials) {
    connection = new Connection(address, token, credentials);
  }

  /**
   * Returns a client of the server at HOST, HOST:PORT, or unix:PATH on Linux. The default port is
   * 7420. Connections use TLS, but not those to this machine: localhost, 127.0.0.0/8, ::1 and Unix
   * sockets. {@code tls://HOST:PORT} and {@code plaintext://HOST:PORT} say which to use. Connects
   * on first use. An invalid address is INVALID_ARGUMENT.
   */
  public static ThreadBus connect(String address) {
    return connect(address, "");
  }

  /** Returns a client that sends {@code token} with its calls. */
  public static ThreadBus connect(String address, String token) {
    return connect(address, token, TlsFiles.NONE);
  }

  /** Reads the files for TLS once, now. An invalid file is INVALID_ARGUMENT. */
  public static ThreadBus connect(String address, String token, TlsFiles files) {
    Address parsed = Address.parse(address);
    try {
      return new ThreadBus(parsed, token, files.credentials(parsed));
    } catch (IllegalArgumentException unusable) {
      throw Address.misused(files + ": " + unusable.getMessage());
    }
  }

  /** Returns a client with these channel credentials, whatever the address says. */
  public static ThreadBus connect(String address, String token, ChannelCredentials credentials) {
    return new ThreadBus(Address.parse(address), token, credentials);
  }

  /** Registers with a generated token, so that the name can be used only once. */
  public void register(String agent) {
    register(agent, null);
  }

  /**
   * Registers an agent, makes all later calls as that agent, and sends heartbeats in the
   * background. The token is a secret of 32–128 characters of {@code A-Z a-z 0-9 _ -}; use the same
   * one to register the same agent again. Null or empty = a generated token.
   */
  public synchronized void register(String agent, String token) {
    // Generated here, not by the server, so that the call may be repeated.
    String secret = token == null || token.isEmpty() ? UUID.randomUUID().toString() : token;
    call(AgentServiceGrpc.getRegisterAgentMethod(),
        RegisterAgentRequest.newBuilder().setAgent(agent).setToken(secret).build());
    connection.setAgent(agent, secret);
    if (heartbeats == null) {
      heartbeats = new Thread(this::sendHeartbeats, "threadbus-heartbeats");
      heartbeats.setDaemon(true); // does not keep the JVM running
      heartbeats.start();
    }
  }

  // Releases the lock only between two heartbeats, so that endHeartbeats() waits for a running one.
  private synchronized void sendHeartbeats() {
    try {
      while (heartbeats == Thread.currentThread()) {
        long pause = 1_000; // after a failure; the program's next call reports it
        try {
          long interval = milliseconds(connection.call(BusServiceGrpc.getHeartbeatMethod(),
              HeartbeatRequest.getDefaultInstance(), BEAT).getHeartbeatInterval());
          pause = interval > 0 ? interval : 40_000;
        } catch (BusException again) {
          // Retried soon.
        }
        wait(Math.max(500, Math.min(pause, 3_600_000)));
      }
    } catch (InterruptedException end) {
      // An interrupt means that heartbeats are to end.
    }
  }

  private synchronized void endHeartbeats() {
    heartbeats = null;
    notifyAll();
  }

  /** Joins the thread, which is created if needed; a new participant starts at the head. */
  public JoinThreadResponse join(String thread) {
    return join(thread, JoinStart.JOIN_START_HEAD);
  }

  /** Joins the thread, which is created if needed; a new participant starts at {@code start}. */
  public JoinThreadResponse join(String thread, JoinStart start) {
    JoinThreadResponse response = call(ThreadServiceGrpc.getJoinThreadMethod(), JoinThreadRequest
        .newBuilder().setThread(thread).setCreate(true).setStart(start).build());
    Places.checked(response.getCursor(), thread, "");
    return response;
  }

  /** Posts a message, with retries, and stores it once. */
  public PostMessageResponse post(String thread, String content) {
    return post(PostMessageRequest.newBuilder().setThread(thread).setContent(content).build());
  }

  /** Posts a message, with retries, and stores it once. Adds a request_id if it has none. */
  public PostMessageResponse post(PostMessageRequest request) {
    return post(request, PostOptions.DEFAULT);
  }

  /** Posts a message, with retries, and stores it once. Adds a request_id if it has none. */
  public PostMessageResponse post(PostMessageRequest request, PostOptions options) {
    PostMessageRequest once = request.getRequestId().isEmpty()
        ? request.toBuilder().setRequestId(UUID.randomUUID().toString()).build() : request;
    PostMessageResponse response = connection.call(BusServiceGrpc.getPostMessageMethod(), once,
        options.timeout(), options.traceparent());
    if (!Places.isSeq(response.getSeq())) {
      throw BusException.brokenAnswer("the seq " + response.getSeq() + " of a post");
    }
    return response;
  }

  /** Follows a thread: the messages of other agents after {@code cursor}, then new ones. */
  public Follow follow(Cursor cursor) {
    return follow(cursor, FollowOptions.DEFAULT);
  }

  /** Follows a thread: the messages after {@code cursor} that pass the filter, then new ones. */
  public Follow follow(Cursor cursor, FollowOptions options) {
    return follow(WaitMessagesRequest.newBuilder().addThreads(cursor), options, OTHERS);
  }

  /** Follows all threads of the agent: what is addressed to it, with the default options. */
  public Follow inbox() {
    return inbox(FollowOptions.DEFAULT);
  }

  /**
   * Follows all threads in which the agent takes part, also those in which it comes to take part,
   * as by a mention: without a filter, what is addressed to the agent. Each thread starts at the
   * agent's read position; see {@link #markRead}. The messages of a thread come in order. It goes
   * on when threads are closed, left or deleted.
   */
  public Follow inbox(FollowOptions options) {
    return follow(WaitMessagesRequest.newBuilder().setAllMyThreads(true), options, ADDRESSED);
  }

  private Follow follow(
      WaitMessagesRequest.Builder request, FollowOptions options, MessageFilter unset) {
    return new Follow(follows, connection, request
        .setFilter(Objects.requireNonNullElse(options.filter(), unset))
        .setOmitAttachmentData(options.omitAttachmentData())
        .setMaxContentBytes(options.maxContentBytes()).build(), options.continueOnResync());
  }

  /** Whether the text was cut off. The method GetMessage returns the whole. */
  public static boolean isTruncated(Message message) {
    return message.getContentBytes().size() < message.getContentSize();
  }

  /**
   * Posts a question to the agents in {@code expect_reply}, or else to those in {@code mentions}
   * and {@code handoff_to}. Returns the first reply to it, or to an edit of it. Throws {@link
   * UnansweredException} after a notice about each of the agents, or when no request is open any
   * more. Until then it waits, across reconnects. If the thread is interrupted first, it throws
   * CANCELLED, and the question stays open; the method WithdrawRequest withdraws it. Other
   * exceptions are those of {@link #post(PostMessageRequest)} and {@link Follow}. Marks nothing as
   * read: a Follow returns the reply, too.
   */
  public Message ask(PostMessageRequest question) {
    return ask(question, PostOptions.DEFAULT);
  }

  /** Posts a question with these options, and returns the first reply, as {@link #ask(PostMessageRequest)}. */
  public Message ask(PostMessageRequest question, PostOptions options) {
    PostMessageRequest request = question.hasExpectReply() ? question
        : question.toBuilder().setExpectReply(ExpectReply.getDefaultInstance()).build();
    Question asked = new Question(this, request, post(request, options));
    WaitMessagesRequest wait = WaitMessagesRequest.newBuilder().addThreads(asked.cursor()).build();
    try (Follow follow = new Follow(follows, connection, wait, false)) {
      return asked.reply(follow);
    }
  }

  /** Reports everything up to the cursor as read: the next join() continues there. */
  public void markRead(Cursor cursor) {
    call(BusServiceGrpc.getHeartbeatMethod(),
        HeartbeatRequest.newBuilder().addReadCursors(cursor).build());
  }

  /** Makes any unary call, retried for up to 30 s where that is safe. */
  public <Q, A> A call(MethodDescriptor<Q, A> method, Q request) {
    return connection.call(method, request, TIMEOUT);
  }

  /** Returns a channel for generated stubs: the current connection, with the current token. */
  public Channel channel() {
    return connection.authorized(connection.channel());
  }

  /**
   * Ends the session: the agent is OFFLINE at once. Its heartbeats and follows end first, as any
   * later call would start a new session. register() starts one, with heartbeats.
   */
  public void goodbye() {
    follows.forEach(Follow::close);
    endHeartbeats();
    call(AgentServiceGrpc.getEndSessionMethod(), EndSessionRequest.getDefaultInstance());
  }

  /** Closes the connection and ends all calls on it. Does not end the session. */
  @Override
  public void close() {
    connection.close();
    follows.forEach(Follow::close);
    endHeartbeats();
  }

  /** Returns a duration in milliseconds, limited to 10,000 years, as in protobuf's JSON. */
  static long milliseconds(com.google.protobuf.Duration duration) {
    long longest = 315_576_000_000L;
    long seconds = Math.max(-longest, Math.min(duration.getSeconds(), longest));
    return seconds * 1_000 + duration.getNanos() / 1_000_000;
  }
}
