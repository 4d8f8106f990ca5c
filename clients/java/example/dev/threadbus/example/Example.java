package dev.threadbus.example;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import dev.threadbus.client.BusException;
import dev.threadbus.client.CursorLostException;
import dev.threadbus.client.Follow;
import dev.threadbus.client.ThreadBus;
import dev.threadbus.client.TlsFiles;
import dev.threadbus.v1.Cursor;
import dev.threadbus.v1.JoinStart;
import dev.threadbus.v1.Message;
import dev.threadbus.v1.PostMessageRequest;
import dev.threadbus.v1.PostMessageResponse;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;

/** A minimal agent: joins a thread, echoes messages addressed to it, and exits on "stop". */
public final class Example {
  private static final Gson JSON = new GsonBuilder().disableHtmlEscaping().create();
  // System.out uses the platform's charset, which may not be UTF-8.
  private static final PrintStream OUT =
      new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

  public static void main(String[] args) {
    if (args.length != 3) {
      System.err.println("usage: Example HOST:PORT THREAD NAME");
      System.exit(2);
    }
    TlsFiles files = new TlsFiles(file("THREADBUS_CA_FILE"), file("THREADBUS_CLIENT_CERT"),
        file("THREADBUS_CLIENT_KEY"));
    try (ThreadBus bus = ThreadBus.connect(args[0], "", files)) {
      run(bus, args[1], args[2]);
    } catch (BusException error) {
      fail(error.code().name(), error.reason(), error.getMessage());
    } catch (CursorLostException error) {
      fail("OUT_OF_RANGE", error.resync().getReason().name(), error.getMessage());
    }
  }

  /** Returns the path in an environment variable, or null if it is unset or empty. */
  private static Path file(String variable) {
    String path = System.getenv(variable);
    return path == null || path.isEmpty() ? null : Path.of(path);
  }

  private static void run(ThreadBus bus, String thread, String name) {
    bus.register(name, System.getenv("THREADBUS_TOKEN")); // null = a new token
    Cursor cursor = bus.join(thread, JoinStart.JOIN_START_FIRST).getCursor();
    say("joined", thread, "after_seq", cursor.getAfterSeq());
    try (Follow follow = bus.follow(cursor)) {
      for (Message message : follow) {
        say("seq", message.getSeq(), "sender", message.getSender(),
            "content", message.getContent());
        if (message.getMentionsList().contains(name) || message.getHandoffTo().equals(name)) {
          answer(bus, message);
        }
        bus.markRead(follow.cursor());
        if (message.getContent().equals("stop")) {
          break;
        }
      }
    }
    bus.goodbye();
  }

  private static void answer(ThreadBus bus, Message message) {
    // The id is derived from the message: if the agent is killed here and restarted, it still
    // replies only once.
    PostMessageResponse posted = bus.post(PostMessageRequest.newBuilder()
        .setThread(message.getThread()).setContent("echo: " + message.getContent())
        .setReplyTo(message.getSeq()).setRequestId("echo-" + message.getSeq()).build());
    say("posted", posted.getSeq(), "reply_to", message.getSeq(),
        "deduplicated", posted.getDeduplicated());
  }

  private static void say(Object... keysAndValues) {
    OUT.println(json(keysAndValues));
  }

  private static void fail(String code, String reason, String message) {
    System.err.println(json("code", code, "reason", reason, "message", message));
    System.exit(1);
  }

  private static String json(Object... keysAndValues) {
    Map<String, Object> line = new LinkedHashMap<>();
    for (int i = 0; i < keysAndValues.length; i += 2) {
      line.put((String) keysAndValues[i], keysAndValues[i + 1]);
    }
    return JSON.toJson(line);
  }
}
