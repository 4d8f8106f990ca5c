package dev.threadbus.client;

import dev.threadbus.v1.BusServiceGrpc;
import dev.threadbus.v1.WaitMessagesRequest;
import dev.threadbus.v1.WaitMessagesResponse;
import io.grpc.Channel;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.time.Duration;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * One WaitMessages call, read frame by frame. grpc-java's own iterator over a stream knows no
 * time-out. The next frame is asked for when one is taken, so a slow reader slows the server down
 * and not its memory up.
 */
final class Wait implements ClientResponseObserver<WaitMessagesRequest, WaitMessagesResponse> {
  private static final Object END = new Object();

  private final BlockingQueue<Object> events = new LinkedBlockingQueue<>();
  private ClientCallStreamObserver<WaitMessagesRequest> call;

  Wait(Channel channel, WaitMessagesRequest request) {
    BusServiceGrpc.newStub(channel).waitMessages(request, this);
  }

  /** The next frame; null when the call ended with OK. Throws StatusRuntimeException otherwise. */
  WaitMessagesResponse read(Duration patience) throws InterruptedException, TimeoutException {
    Object event = events.poll(patience.toMillis(), TimeUnit.MILLISECONDS);
    if (event == null) {
      throw new TimeoutException();
    }
    if (event instanceof RuntimeException failure) {
      throw failure;
    }
    if (event == END) {
      return null;
    }
    call.request(1);
    return (WaitMessagesResponse) event;
  }

  /** Ends the call, from any thread; a read under way then ends, too. */
  void cancel() {
    call.cancel("the client left", null);
  }

  @Override
  public void beforeStart(ClientCallStreamObserver<WaitMessagesRequest> call) {
    this.call = call;
    call.disableAutoRequestWithInitial(1);
  }

  @Override
  public void onNext(WaitMessagesResponse frame) {
    events.add(frame);
  }

  @Override
  public void onError(Throwable failure) {
    events.add(failure);
  }

  @Override
  public void onCompleted() {
    events.add(END);
  }
}
