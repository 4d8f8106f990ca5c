package dev.threadbus.client;

import java.time.Duration;

/** Says in the background that the agent is alive, as often as the server asks for it. */
final class Heartbeats {
  private static final Duration PATIENCE = Duration.ofSeconds(10);

  private final ThreadBus bus;
  private Duration interval = Duration.ofSeconds(40); // until the server says how often
  private boolean stopped;

  Heartbeats(ThreadBus bus) {
    this.bus = bus;
    Thread thread = new Thread(this::run, "threadbus-heartbeats");
    thread.setDaemon(true); // does not keep the program from ending
    thread.start();
  }

  /** No beat comes after this: one after a goodbye would take it back. */
  synchronized void stop() {
    stopped = true;
    notifyAll();
  }

  // The lock is held while a beat is under way, and let go in between: stop() waits for its end.
  private synchronized void run() {
    try {
      for (int failures = 0; !stopped;) {
        long pause;
        try {
          interval = ThreadBus.duration(bus.heartbeat(PATIENCE).getHeartbeatInterval());
          failures = 0;
          pause = interval.toMillis();
        } catch (RuntimeException failure) { // what is wrong, the next call tells
          pause = Math.min(interval.toMillis(), 500 + ThreadBus.backoff(failures++));
        }
        wait(Math.max(1, pause)); // 0 would be for ever
      }
    } catch (InterruptedException end) {
      // Nobody interrupts this thread but to end it.
    }
  }
}
