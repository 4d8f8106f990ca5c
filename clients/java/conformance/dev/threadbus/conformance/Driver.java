package dev.threadbus.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.MessageOrBuilder;
import com.google.protobuf.TypeRegistry;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.ErrorDetailsProto;
import dev.threadbus.client.BusException;
import dev.threadbus.client.CursorLostException;
import dev.threadbus.client.Follow;
import dev.threadbus.client.FollowOptions;
import dev.threadbus.client.PostOptions;
import dev.threadbus.client.ThreadBus;
import dev.threadbus.client.TlsFiles;
import dev.threadbus.client.UnansweredException;
import dev.threadbus.v1.AgentServiceGrpc;
import dev.threadbus.v1.BusServiceGrpc;
import dev.threadbus.v1.Cursor;
import dev.threadbus.v1.JoinStart;
import dev.threadbus.v1.MessageFilter;
import dev.threadbus.v1.PostMessageRequest;
import dev.threadbus.v1.PostMessagesRequest;
import dev.threadbus.v1.ThreadServiceGrpc;
import dev.threadbus.v1.WaitMessagesRequest;
import io.grpc.CallOptions;
import io.grpc.ClientInterceptors;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.ServiceDescriptor;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Stream;

/** The conformance driver; tests/conformance/README.md describes the protocol. */
public final class Driver {
  private static final Map<String, Set<String>> FIELDS = Map.ofEntries(
      Map.entry("open", Set.of("address", "token", "ca_file", "client_cert", "client_key")),
      Map.entry("call", Set.of("method", "request", "timeout", "traceparent")),
      Map.entry("invoke", Set.of("method", "request")),
      Map.entry("wait", Set.of("request", "timeout")),
      Map.entry("post_many", Set.of("requests", "timeout")),
      Map.entry("register", Set.of("agent", "token")),
      Map.entry("join", Set.of("thread", "start")),
      Map.entry("post", Set.of("request", "timeout", "traceparent")),
      Map.entry("ask", Set.of("request", "traceparent")),
      Map.entry("follow",
          Set.of("cursor", "on_resync", "own", "omit_attachment_data", "max_content_bytes")),
      Map.entry("inbox",
          Set.of("addressed", "on_resync", "read", "omit_attachment_data", "max_content_bytes")),
      Map.entry("read", Set.of("cursor")),
      Map.entry("cancel", Set.of("target")));
  private static final Metadata.Key<String> TRACEPARENT =
      Metadata.Key.of("traceparent", Metadata.ASCII_STRING_MARSHALLER);
  private static final TypeRegistry DETAILS = TypeRegistry.newBuilder()
      .add(ErrorDetailsProto.getDescriptor().getMessageTypes()).build();
  private static final JsonFormat.Printer PRINTER =
      JsonFormat.printer().usingTypeRegistry(DETAILS).omittingInsignificantWhitespace();
  private static final PrintStream OUT =
      new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);

  private final Map<Long, Thread> running = new ConcurrentHashMap<>();
  private volatile ThreadBus bus;

  public static void main(String[] args) throws IOException {
    new Driver().run();
    System.exit(0);
  }

  private void run() throws IOException {
    var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      JsonObject command = JsonParser.parseString(line).getAsJsonObject();
      long id = command.get("id").getAsLong();
      switch (command.get("do").getAsString()) {
        // Run in order: later commands may depend on them.
        case "open", "close", "cancel" -> answer(id, command);
        default -> {
          Thread thread = new Thread(() -> answer(id, command));
          running.put(id, thread);
          thread.start();
        }
      }
    }
    close();
  }

  private void answer(long id, JsonObject command) {
    try {
      checkFields(command);
      write(id, "ok", perform(id, command));
    } catch (CursorLostException lost) {
      JsonObject error = error("OUT_OF_RANGE", lost.getMessage());
      error.add("resync", json(lost.resync()));
      write(id, "error", error);
    } catch (UnansweredException unanswered) {
      JsonObject error = error("FAILED_PRECONDITION", unanswered.getMessage());
      JsonObject why = new JsonObject();
      why.addProperty("reason", unanswered.reason());
      why.addProperty("agent", unanswered.agent());
      why.addProperty("seq", unanswered.seq());
      error.add("unanswered", why);
      write(id, "error", error);
    } catch (StatusRuntimeException failure) {
      write(id, "error", error(new BusException(failure)));
    } catch (BusException failure) {
      write(id, "error", error(failure));
    } catch (UnsupportedOperationException unknown) {
      write(id, "error", error("UNIMPLEMENTED", unknown.getMessage()));
    } catch (IllegalArgumentException | InvalidProtocolBufferException | JsonParseException bad) {
      write(id, "error", error("INVALID_ARGUMENT", bad.toString()));
    } catch (RuntimeException bug) {
      bug.printStackTrace();
      write(id, "error", error("INTERNAL", bug.toString()));
    } finally {
      running.remove(id);
    }
  }

  private static void checkFields(JsonObject command) {
    Set<String> known = FIELDS.getOrDefault(command.get("do").getAsString(), Set.of());
    for (String name : command.keySet()) {
      if (!known.contains(name) && !name.equals("id") && !name.equals("do")) {
        throw new IllegalArgumentException("unknown field " + name);
      }
    }
  }

  private JsonElement perform(long id, JsonObject command) throws InvalidProtocolBufferException {
    switch (command.get("do").getAsString()) {
      case "open" -> {
        close();
        TlsFiles files = new TlsFiles(file(command, "ca_file"), file(command, "client_cert"),
            file(command, "client_key"));
        bus = ThreadBus.connect(text(command, "address"), text(command, "token"), files);
      }
      case "call" -> {
        return json(call(command));
      }
      case "invoke" -> {
        var method = unary(text(command, "method"));
        return json(bus.call(method, request(method, command)));
      }
      case "wait" -> {
        var request = parse(command.get("request"), WaitMessagesRequest.newBuilder()).build();
        var stub = timed(BusServiceGrpc.newBlockingStub(bus.channel()), command);
        stub.waitMessages(request).forEachRemaining(frame -> write(id, "frame", json(frame)));
      }
      case "post_many" -> postMany(id, command);
      case "register" -> bus.register(text(command, "agent"), text(command, "token"));
      case "join" -> {
        String start = command.has("start") ? text(command, "start") : "JOIN_START_UNSPECIFIED";
        return json(bus.join(text(command, "thread"), JoinStart.valueOf(start)));
      }
      case "post" -> {
        var request = parse(command.get("request"), PostMessageRequest.newBuilder()).build();
        return json(bus.post(request, postOptions(command)));
      }
      case "ask" -> {
        var request = parse(command.get("request"), PostMessageRequest.newBuilder()).build();
        return json(bus.ask(request, postOptions(command)));
      }
      case "follow" -> follow(id, command);
      case "inbox" -> inbox(id, command);
      case "read" -> bus.markRead(cursor(command));
      case "goodbye" -> bus.goodbye();
      case "cancel" -> {
        Thread target = running.get(command.get("target").getAsLong());
        if (target != null) { // otherwise it has ended
          target.interrupt();
        }
      }
      case "close" -> close();
      default -> throw new UnsupportedOperationException("unknown: " + command.get("do"));
    }
    return new JsonObject();
  }

  private Message call(JsonObject command) throws InvalidProtocolBufferException {
    var method = unary(text(command, "method"));
    CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(seconds(command, "timeout"));
    Metadata headers = new Metadata();
    if (command.has("traceparent")) {
      headers.put(TRACEPARENT, text(command, "traceparent"));
    }
    var channel = ClientInterceptors.intercept(bus.channel(),
        MetadataUtils.newAttachHeadersInterceptor(headers));
    return ClientCalls.blockingUnaryCall(channel, method, options, request(method, command));
  }

  @SuppressWarnings("unchecked") // all marshallers of the stubs are for protobuf messages
  private static MethodDescriptor<Message, Message> unary(String name) {
    return (MethodDescriptor<Message, Message>) Stream
        .of(BusServiceGrpc.getServiceDescriptor(), ThreadServiceGrpc.getServiceDescriptor(),
            AgentServiceGrpc.getServiceDescriptor())
        .map(ServiceDescriptor::getMethods).flatMap(methods -> methods.stream())
        .filter(found -> found.getType() == MethodDescriptor.MethodType.UNARY)
        .filter(found -> name.equals(found.getBareMethodName())).findFirst()
        .orElseThrow(() -> new UnsupportedOperationException("no unary method " + name));
  }

  private static Message request(MethodDescriptor<Message, Message> method, JsonObject command)
      throws InvalidProtocolBufferException {
    var marshaller = (MethodDescriptor.PrototypeMarshaller<Message>) method.getRequestMarshaller();
    return parse(command.get("request"),
        marshaller.getMessagePrototype().newBuilderForType()).build();
  }

  private void postMany(long id, JsonObject command) throws InvalidProtocolBufferException {
    List<PostMessagesRequest> requests = new ArrayList<>();
    for (JsonElement request : command.get("requests").getAsJsonArray()) {
      requests.add(parse(request, PostMessagesRequest.newBuilder()).build());
    }
    var posting = timed(BusServiceGrpc.newBlockingV2Stub(bus.channel()), command).postMessages();
    try {
      for (PostMessagesRequest request : requests) {
        posting.write(request);
      }
      posting.halfClose();
      for (var response = posting.read(); response != null; response = posting.read()) {
        write(id, "response", json(response));
      }
    } catch (InterruptedException cancelled) {
      posting.cancel("cancelled", cancelled);
      throw Status.CANCELLED.asRuntimeException();
    } catch (StatusException failure) {
      throw new BusException(failure);
    }
  }

  private void follow(long id, JsonObject command) throws InvalidProtocolBufferException {
    FollowOptions options = options(command,
        MessageFilter.newBuilder().setExcludeOwn(!flag(command, "own", false)).build());
    try (Follow follow = bus.follow(cursor(command), options)) {
      follow.forEachRemaining(message -> writeMessage(id, message));
    }
  }

  private void inbox(long id, JsonObject command) {
    MessageFilter filter = flag(command, "addressed", true) ? null
        : MessageFilter.newBuilder().setExcludeOwn(true).build();
    boolean read = flag(command, "read", false);
    try (Follow inbox = bus.inbox(options(command, filter))) {
      for (dev.threadbus.v1.Message message : inbox) {
        writeMessage(id, message);
        if (read) {
          bus.markRead(inbox.cursor());
        }
      }
    } catch (BusException failure) {
      if (!Thread.currentThread().isInterrupted()) { // otherwise markRead was cancelled
        throw failure;
      }
    }
  }

  private static FollowOptions options(JsonObject command, MessageFilter filter) {
    long most = command.has("max_content_bytes")
        ? command.get("max_content_bytes").getAsLong() : 0;
    return new FollowOptions(filter, flag(command, "omit_attachment_data", false), most,
        text(command, "on_resync").equals("continue"));
  }

  private static PostOptions postOptions(JsonObject command) {
    PostOptions options = PostOptions.DEFAULT.withTraceparent(text(command, "traceparent"));
    return command.has("timeout") ? options.withTimeout(seconds(command, "timeout")) : options;
  }

  private void close() {
    if (bus != null) {
      bus.close();
    }
  }

  private static <S extends AbstractStub<S>> S timed(S stub, JsonObject command) {
    return command.has("timeout") ? stub.withDeadlineAfter(seconds(command, "timeout")) : stub;
  }

  private static Cursor cursor(JsonObject command) throws InvalidProtocolBufferException {
    return parse(command.get("cursor"), Cursor.newBuilder()).build();
  }

  private static <B extends Message.Builder> B parse(JsonElement json, B builder)
      throws InvalidProtocolBufferException {
    JsonFormat.parser().merge(json == null ? "{}" : json.toString(), builder);
    return builder;
  }

  private static String text(JsonObject command, String name) {
    return command.has(name) ? command.get(name).getAsString() : "";
  }

  private static boolean flag(JsonObject command, String name, boolean unset) {
    return command.has(name) ? command.get(name).getAsBoolean() : unset;
  }

  private static Path file(JsonObject command, String name) {
    return command.has(name) ? Path.of(text(command, name)) : null;
  }

  private static Duration seconds(JsonObject command, String name) {
    return Duration.ofNanos((long) (command.get(name).getAsDouble() * 1e9));
  }

  private static JsonObject error(String code, String message) {
    JsonObject error = new JsonObject();
    error.addProperty("code", code);
    error.addProperty("message", message);
    return error;
  }

  private static JsonObject error(BusException failure) {
    JsonObject error = error(failure.code().name(), failure.getMessage());
    error.addProperty("reason", failure.reason());
    JsonObject metadata = new JsonObject();
    failure.metadata().forEach(metadata::addProperty);
    error.add("metadata", metadata);
    JsonArray details = new JsonArray();
    failure.details().forEach(detail -> details.add(json(detail)));
    error.add("details", details);
    error.addProperty("outcome_unknown", failure.outcomeUnknown());
    return error;
  }

  private static JsonElement json(MessageOrBuilder message) {
    try {
      return JsonParser.parseString(PRINTER.print(message));
    } catch (InvalidProtocolBufferException unknown) {
      throw new IllegalStateException(unknown);
    }
  }

  private static void write(long id, String key, JsonElement value) {
    JsonObject line = new JsonObject();
    line.add(key, value);
    write(id, line);
  }

  private static void writeMessage(long id, dev.threadbus.v1.Message message) {
    JsonObject line = new JsonObject();
    line.add("message", json(message));
    line.addProperty("truncated", ThreadBus.isTruncated(message));
    write(id, line);
  }

  private static void write(long id, JsonObject line) {
    line.addProperty("id", id);
    synchronized (OUT) {
      OUT.println(line);
      OUT.flush();
    }
  }
}
