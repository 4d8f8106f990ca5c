package dev.threadbus.client;

import com.google.protobuf.Duration;
import dev.threadbus.v1.BusServiceGrpc;
import dev.threadbus.v1.Cursor;
import dev.threadbus.v1.Message;
import dev.threadbus.v1.MessageFilter;
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
 * What comes after a cursor, then what is posted, as it is posted: each message once, in order,
 * across reconnects, whatever the server sends. Made by {@link ThreadBus#follow}; docs/clients.md
 * explains the loop.
 *
 * <p>A loop over it blocks for the next message, and ends when the thread is closed, the agent said
 * goodbye, {@link #close} was called (from any thread), or its own thread was interrupted. Throws
 * {@link CursorLostException}, and {@link BusException} for what coming again does not cure, or has
 * not in a minute. One thread iterates; close it when leaving early.
 */
public final class Follow implements Iterable<Message>, Iterator<Message>, AutoCloseable {
  private static final long FIRST_FRAME = 20_000; // milliseconds, to connect, too
  private static final long IDLE_PAUSE = 20; // after a frame that is no progress: they may be many
  /** Nanoseconds for calls to fail, not only to be cut off, without progress. */
  private static final long LONGEST_FAILING = TimeUnit.MINUTES.toNanos(1);
  /** Nanoseconds for a call to live that is not just cut off each time. */
  private static final long SETTLED = TimeUnit.SECONDS.toNanos(1);
  private static final long STATUS = 1_000; // for the call to end after `ending`

  private final Set<Follow> follows; // of the client, that are not closed
  private final Connection connection;
  private final MessageFilter filter;
  private volatile boolean closed;
  private Cursor cursor; // after what was handed out
  private final Place place; // after the batch
  private Iterator<Message> batch = Collections.emptyIterator();

  private BlockingClientCall<?, WaitMessagesResponse> call; // null = to be opened
  private ManagedChannel channel; // that it is on
  private long opened; // on System.nanoTime()
  private boolean caughtUp;
  private long patience; // milliseconds for the next frame
  private Reason ending; // null = it has not been announced
  private long retryDelay; // milliseconds that the server asks for
  private int failures; // without progress
  private boolean failing;
  private long failingSince; // on System.nanoTime()

  Follow(Set<Follow> follows, Connection connection, Cursor cursor, MessageFilter filter) {
    this.follows = follows;
    this.connection = connection;
    this.filter = filter;
    this.cursor = cursor;
    place = new Place(cursor, filter);
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
    cursor = place.cursor().toBuilder().setAfterSeq(message.getSeq()).build();
    return message;
  }

  @Override
  public Iterator<Message> iterator() {
    return this;
  }

  /** After the message handed out last, or past what was filtered out: to mark read, or resume. */
  public Cursor cursor() {
    return cursor;
  }

  /** Ends the loop and the call that it reads, and no other one is made after this. */
  @Override
  public synchronized void close() {
    closed = true;
    notifyAll();
    follows.remove(this);
    if (call != null) {
      call.cancel("the client left", null);
    }
  }

  /** Whether there is a call to read, made at need; the batch before was handed out. */
  private synchronized boolean open() {
    cursor = place.cursor();
    if (closed || connection.isClosed()) {
      return false;
    }
    if (call == null) {
      patience = FIRST_FRAME;
      opened = System.nanoTime();
      caughtUp = false;
      ending = null;
      retryDelay = 0;
      WaitMessagesRequest request =
          WaitMessagesRequest.newBuilder().addThreads(cursor).setFilter(filter).build();
      Text.check(request);
      channel = connection.channel();
      call = BusServiceGrpc.newBlockingV2Stub(connection.authorized(channel)).waitMessages(request);
    }
    return true;
  }

  /** The next frame; null when there is none, and coming again may help. */
  private WaitMessagesResponse read() throws InterruptedException {
    try {
      return call.read(patience, TimeUnit.MILLISECONDS);
    } catch (TimeoutException silence) {
      if (ending == null) {
        connection.renew(channel); // the connection is dead
      }
    } catch (StatusException failure) {
      if (BusException.isUnparsed(failure)) {
        throw BusException.broken("a frame that cannot be parsed");
      }
      BusException error = new BusException(failure);
      if (!mayPass(error) && ending == null && !closed) { // after `ending` nothing is a failure
        throw error;
      }
      retryDelay = Math.max(retryDelay, error.retryDelay().toMillis());
    }
    return null;
  }

  /** Whether to come again after an error; no error but a disconnection may last for a minute. */
  private boolean mayPass(BusException error) {
    if (error.isDisconnection()) {
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
    long before = place.cursor().getAfterSeq();
    batch = place.take(frame).iterator();
    if (frame.hasResync()) {
      throw new CursorLostException(frame.getResync());
    }
    boolean moved = place.cursor().getAfterSeq() > before;
    boolean progress = moved || !caughtUp && frame.hasCaughtUp();
    caughtUp |= frame.hasCaughtUp();
    failures = moved ? 0 : failures;
    failing &= !progress;
    if (frame.hasStarted()) {
      patience = silence(frame.getStarted().getKeepaliveInterval());
    } else if (frame.hasEnding()) {
      ending = frame.getEnding().getReason();
      retryDelay = ThreadBus.milliseconds(frame.getEnding().getRetryDelay());
      patience = STATUS; // cancelling would cost the server more than a call that ends by itself
    } else if (!progress) {
      Thread.sleep(IDLE_PAUSE);
    }
  }

  /** Milliseconds to wait for a frame when so much was granted: what the contract allows. */
  private static long silence(Duration granted) {
    long interval = ThreadBus.milliseconds(granted);
    return (interval > 0 ? Math.max(1_000, Math.min(interval, 300_000)) : 45_000) * 5 / 2;
  }

  /** Ends the call; pauses before there is another one, if there is to be one. */
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
      connection.connectNow(); // it, too, has paused by now
    }
  }
}
