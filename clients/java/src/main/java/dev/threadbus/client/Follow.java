package dev.threadbus.client;

import com.google.protobuf.Duration;
import dev.threadbus.v1.BusServiceGrpc;
import dev.threadbus.v1.Cursor;
import dev.threadbus.v1.Message;
import dev.threadbus.v1.MessageKind;
import dev.threadbus.v1.Notice;
import dev.threadbus.v1.WaitEnding.Reason;
import dev.threadbus.v1.WaitMessagesRequest;
import dev.threadbus.v1.WaitMessagesResponse;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.stub.BlockingClientCall;
import java.util.Collections;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Iterates over the messages after a cursor, then new ones as they are posted: each once and in
 * order, across reconnects, whatever the server sends. Notices come only to the agent that they are
 * for. Created by {@link ThreadBus#follow} and {@link ThreadBus#inbox}; docs/clients.md explains
 * the loop.
 *
 * <p>Iterating blocks for the next message. It ends when the thread is closed, the session has ended,
 * {@link #close} was called (from any thread), or the iterating thread was interrupted. Throws
 * {@link CursorLostException}, and {@link BusException} if retrying cannot help, or has not helped
 * for a minute. Disconnections are retried without limit once the server has responded to a call of
 * the client. Not thread-safe except for close; call close when leaving the loop early.
 */
public final class Follow implements Iterable<Message>, Iterator<Message>, AutoCloseable {
  private static final long FIRST_FRAME = 20_000; // milliseconds, including the connect
  private static final long IDLE_PAUSE = 20; // milliseconds after a frame without progress
  /** Nanoseconds of failures without progress before giving up, see mayPass(). */
  private static final long LONGEST_FAILING = TimeUnit.MINUTES.toNanos(1);
  /** Nanoseconds: a call that lives this long resets the backoff. */
  private static final long SETTLED = TimeUnit.SECONDS.toNanos(1);
  private static final long STATUS = 1_000; // milliseconds for the status after `ending`

  private final Set<Follow> follows; // open follows of the client
  private final Connection connection;
  private final WaitMessagesRequest request; // without cursors
  private final boolean continueOnResync;
  private volatile boolean closed;
  private Cursor cursor; // after the last message returned; null = none yet, in several threads
  private final Places places; // after the whole batch
  private Iterator<Message> batch = Collections.emptyIterator();

  private BlockingClientCall<?, WaitMessagesResponse> call; // null = not open
  private ManagedChannel channel; // the channel of the call
  private long opened; // on System.nanoTime()
  private boolean caughtUp;
  private long patience; // milliseconds for the next frame
  private Reason ending; // null = no `ending` yet
  private long retryDelay; // requested by the server, in milliseconds
  private int failures; // without progress
  private boolean failing;
  private long failingSince; // on System.nanoTime()

  Follow(Set<Follow> follows, Connection connection, WaitMessagesRequest request,
      boolean continueOnResync) {
    this.follows = follows;
    this.continueOnResync = continueOnResync;
    this.connection = connection;
    this.request = request.toBuilder().clearThreads().build();
    cursor = request.getThreadsCount() == 1 ? request.getThreads(0) : null;
    places = new Places(request);
    follows.add(this);
  }

  @Override
  public boolean hasNext() {
    try {
      while (!batch.hasNext() && open()) {
        WaitMessagesResponse frame = read();
        if (frame != null) {
          take(frame);
        } else {
          leave();
        }
      }
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      close();
    } catch (RuntimeException failure) {
      close();
      throw failure;
    }
    return !closed && batch.hasNext();
  }

  @Override
  public Message next() {
    if (!batch.hasNext() && !hasNext()) {
      throw new NoSuchElementException();
    }
    Message message = batch.next();
    cursor = places.after(message);
    return message;
  }

  @Override
  public Iterator<Message> iterator() {
    return this;
  }

  /**
   * The position after the last message returned, in its thread, to mark as read or to resume from.
   * Null before the first message of an inbox.
   */
  public Cursor cursor() {
    return cursor;
  }

  /** Ends the iteration and its call. */
  @Override
  public synchronized void close() {
    closed = true;
    notifyAll();
    follows.remove(this);
    if (call != null) {
      call.cancel("the client left", null);
    }
  }

  /** Whether the last call ended because its threads are closed. */
  boolean isThreadClosed() {
    return ending == Reason.REASON_THREADS_CLOSED;
  }

  /** Opens a call if none is open. Returns false if the iteration is over. */
  private synchronized boolean open() {
    cursor = cursor == null ? null : places.latest(cursor);
    if (closed || connection.isClosed()) {
      return false;
    }
    if (call == null) {
      patience = FIRST_FRAME;
      opened = System.nanoTime();
      caughtUp = false;
      ending = null;
      retryDelay = 0;
      WaitMessagesRequest wait = request.toBuilder().addAllThreads(places.cursors()).build();
      Text.check(wait);
      channel = connection.channel();
      call = BusServiceGrpc.newBlockingV2Stub(connection.authorized(channel)).waitMessages(wait);
    }
    return true;
  }

  /** Returns the next frame, or null if there is none and a retry may help. */
  private WaitMessagesResponse read() throws InterruptedException {
    try {
      WaitMessagesResponse frame = call.read(patience, TimeUnit.MILLISECONDS);
      if (frame != null) {
        connection.setAnswered();
        if (frame.getMessages().getMessagesList().stream().anyMatch(Follow::isNotice)) {
          connection.agent(); // see concerns()
        }
      }
      return frame;
    } catch (TimeoutException silence) {
      if (ending == null) {
        connection.renew(channel); // the connection is dead
        BusException error = new BusException(Status.UNAVAILABLE
            .withDescription("no sign of life from the server").asRuntimeException());
        if (!mayPass(error) && !closed) {
          throw error;
        }
      }
    } catch (StatusException | BusException failure) {
      if (failure instanceof StatusException && BusException.isUnparsed(failure)) {
        throw BusException.broken("a frame that cannot be parsed");
      }
      BusException error =
          failure instanceof BusException told ? told : connection.told(failure, false);
      if (!mayPass(error) && ending == null && !closed) { // errors after `ending` are ignored
        throw error;
      }
      retryDelay = Math.max(retryDelay, error.retryDelay().toMillis());
    }
    return null;
  }

  /**
   * Whether to retry after an error: for a minute, but disconnections without limit once the server
   * has responded to a call of the client.
   */
  private boolean mayPass(BusException error) {
    if (error.isDisconnection() && connection.isAnswered()) {
      return true;
    }
    if (!failing) {
      failing = true;
      failingSince = System.nanoTime();
    }
    boolean bug = error.code() == Status.Code.INTERNAL && !error.reason().isEmpty();
    return (error.retryable() || bug) && System.nanoTime() - failingSince < LONGEST_FAILING;
  }

  private void take(WaitMessagesResponse frame) throws InterruptedException {
    Places.Taken taken = places.take(frame);
    batch = taken.fresh().stream().filter(this::concerns).iterator();
    if (taken.lost() && !continueOnResync) {
      throw new CursorLostException(frame.getResync());
    }
    boolean moved = taken.moved();
    boolean progress = moved || !caughtUp && frame.hasCaughtUp();
    caughtUp |= frame.hasCaughtUp();
    failures = moved ? 0 : failures;
    failing &= !progress;
    if (frame.hasStarted()) {
      patience = silence(frame.getStarted().getKeepaliveInterval());
    } else if (frame.hasEnding()) {
      ending = frame.getEnding().getReason();
      retryDelay = ThreadBus.milliseconds(frame.getEnding().getRetryDelay());
      patience = STATUS; // cheaper for the server than a cancellation
    } else if (!progress) {
      Thread.sleep(IDLE_PAUSE);
    }
  }

  /** Whether a message is of a known kind, and no notice for others or with an unknown reason. */
  private boolean concerns(Message message) {
    if (!isNotice(message)) {
      return message.getKind() != MessageKind.UNRECOGNIZED;
    }
    return message.getNotice().getReason() != Notice.Reason.UNRECOGNIZED
        && message.getMentionsList().contains(connection.agent());
  }

  private static boolean isNotice(Message message) {
    return message.getKind() == MessageKind.MESSAGE_KIND_NOTICE;
  }

  /** Returns how long to wait for a frame, in milliseconds, given the granted interval. */
  private static long silence(Duration granted) {
    long interval = ThreadBus.milliseconds(granted);
    return (interval > 0 ? Math.max(1_000, Math.min(interval, 300_000)) : 45_000) * 5 / 2;
  }

  /** Ends the call, and pauses before the next one if there is to be one. */
  private synchronized void leave() throws InterruptedException {
    call.cancel("no more is read", null);
    call = null;
    if (ending == Reason.REASON_THREADS_CLOSED || ending == Reason.REASON_SESSION_ENDED) {
      close();
    }
    if (caughtUp && System.nanoTime() - opened >= SETTLED) {
      failures = 0;
    }
    if (!closed) {
      wait(Math.max(Connection.backoff(failures++), Connection.heeded(retryDelay)));
      connection.connectNow(); // the pause is over
    }
  }
}
