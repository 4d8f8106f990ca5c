package dev.threadbus.client;

import dev.threadbus.v1.Cursor;
import dev.threadbus.v1.Message;
import dev.threadbus.v1.MessageFilter;
import dev.threadbus.v1.MessageKind;
import dev.threadbus.v1.ThreadPosition;
import dev.threadbus.v1.WaitEnding;
import dev.threadbus.v1.WaitMessagesRequest;
import dev.threadbus.v1.WaitMessagesResponse;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * What comes after a cursor, then what is posted, as it is posted: each message once, in order,
 * across reconnects. Made by {@link ThreadBus#follow}; docs/clients.md explains the loop.
 *
 * <p>A loop over it blocks for the next message, and ends when the thread is closed, the agent said
 * goodbye, {@link #close} was called (from any thread), or its own thread was interrupted. Throws
 * {@link CursorLostException}, and {@link BusException} for what coming again does not cure. One
 * thread iterates; close it when leaving early.
 */
public final class Follow implements Iterable<Message>, Iterator<Message>, AutoCloseable {
  private static final Duration FIRST_FRAME = Duration.ofSeconds(20); // to connect, too
  private static final Duration STATUS = Duration.ofSeconds(1); // to end after `ending`

  /**
   * How to follow.
   *
   * @param filter which messages; what is set here counts, so {@code exclude_own} as well
   * @param keepalive a wish for the time between signs of life; zero = the server's default
   * @param continueOnResync go on where the server does instead of throwing CursorLostException
   */
  public record Options(MessageFilter filter, Duration keepalive, boolean continueOnResync) {
    /** The messages of others; a lost cursor is thrown. */
    public static final Options DEFAULT = new Options(
        MessageFilter.newBuilder().setExcludeOwn(true).build(), Duration.ZERO, false);
  }

  private final ThreadBus bus;
  private final Connection connection;
  private final Options options;
  private final CountDownLatch closed = new CountDownLatch(1);
  private Cursor cursor; // after what was handed out
  private Cursor end; // after the batch
  private Iterator<Message> batch = Collections.emptyIterator();
  private Message next;

  private volatile Wait wait; // null = to be opened
  private ManagedChannel channel; // that it is on
  private Duration patience;
  private WaitEnding ending; // null = it has not been announced
  private int failures;

  Follow(ThreadBus bus, Connection connection, Cursor cursor, Options options) {
    this.bus = bus;
    this.connection = connection;
    this.options = options;
    this.cursor = cursor;
    this.end = cursor;
  }

  /** After the message handed out last, or past what was filtered out: to mark read, or resume. */
  public Cursor cursor() {
    return cursor;
  }

  @Override
  public Iterator<Message> iterator() {
    return this;
  }

  @Override
  public boolean hasNext() {
    try {
      while (next == null && !isClosed()) {
        if (batch.hasNext()) {
          Message message = batch.next();
          next = message.getKind() == MessageKind.UNRECOGNIZED ? null : message; // of tomorrow
        } else {
          cursor = end;
          step();
        }
      }
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      close();
    }
    return next != null;
  }

  @Override
  public Message next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    Message message = next;
    next = null;
    cursor = end.toBuilder().setAfterSeq(message.getSeq()).build();
    return message;
  }

  @Override
  public void close() {
    closed.countDown();
    bus.forget(this);
    Wait open = wait;
    if (open != null) {
      open.cancel();
    }
  }

  private boolean isClosed() {
    return closed.getCount() == 0;
  }

  /** Takes one frame; or, when there are no more, pauses and comes again. */
  private void step() throws InterruptedException {
    if (wait == null) {
      open();
    }
    Duration pause = Duration.ZERO;
    try {
      WaitMessagesResponse frame = wait.read(patience);
      if (frame != null) {
        take(frame);
        return;
      }
    } catch (TimeoutException silence) {
      if (ending == null) {
        connection.renew(channel); // the connection is dead
      }
    } catch (StatusRuntimeException failure) {
      BusException error = new BusException(failure);
      if (error.isFinal() && ending == null && !isClosed()) { // after `ending` nothing is a failure
        close();
        throw error;
      }
      pause = error.retryDelay();
    }
    leave(pause);
  }

  private void open() {
    var request = WaitMessagesRequest.newBuilder().addThreads(cursor).setFilter(options.filter());
    if (!options.keepalive().isZero()) {
      request.setKeepaliveInterval(ThreadBus.duration(options.keepalive()));
    }
    channel = connection.channel();
    patience = FIRST_FRAME;
    ending = null;
    wait = new Wait(connection.authorized(channel), request.build());
    if (isClosed()) { // meanwhile, and close() had nothing to cancel
      wait.cancel();
    }
  }

  private void take(WaitMessagesResponse frame) {
    if (frame.hasStarted()) {
      patience = ThreadBus.duration(frame.getStarted().getKeepaliveInterval())
          .multipliedBy(5).dividedBy(2);
      return; // its cursors are those that were asked for
    }
    failures = 0;
    switch (frame.getFrameCase()) {
      case MESSAGES -> {
        end = frame.getMessages().getCursor();
        batch = frame.getMessages().getMessagesList().iterator();
      }
      case CAUGHT_UP -> end = frame.getCaughtUp().getCursor();
      case KEEPALIVE -> moveTo(frame.getKeepalive().getThreadsList());
      case RESYNC -> {
        if (!options.continueOnResync()) {
          close();
          throw new CursorLostException(frame.getResync());
        }
        end = frame.getResync().getPosition().getCursor();
      }
      case ENDING -> {
        ending = frame.getEnding();
        patience = STATUS; // cancelling would cost the server more than a call that ends by itself
        moveTo(ending.getThreadsList());
      }
      default -> { } // a frame of tomorrow
    }
  }

  private void moveTo(List<ThreadPosition> threads) {
    if (!threads.isEmpty()) { // of one thread, as that is what was asked for
      end = threads.get(0).getCursor();
    }
  }

  private void leave(Duration atLeast) throws InterruptedException {
    wait.cancel();
    wait = null;
    Duration pause = atLeast;
    if (ending != null) {
      switch (ending.getReason()) {
        case REASON_THREADS_CLOSED, REASON_SESSION_ENDED -> {
          close();
          return;
        }
        default -> pause = ThreadBus.duration(ending.getRetryDelay());
      }
    }
    // Also the pause between two connects: grpc-java's own backoff is ended by coming again.
    long millis = Math.max(ThreadBus.backoff(failures++), pause.toMillis());
    if (!closed.await(millis, TimeUnit.MILLISECONDS)) {
      connection.connectNow();
    }
  }
}
