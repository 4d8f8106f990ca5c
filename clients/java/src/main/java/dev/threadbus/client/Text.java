package dev.threadbus.client;

import com.google.protobuf.Any;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/**
 * Text that can be sent. UTF-8 cannot hold half of a surrogate pair; protobuf-java would send
 * {@code ?} in its place, without a word.
 */
final class Text {
  private static final Pattern HALF = Pattern.compile("\\p{Cs}"); // a pair is one code point

  /** Checks what the generated stubs send. */
  static final ClientInterceptor CHECKED = new ClientInterceptor() {
    @Override
    public <Q, A> ClientCall<Q, A> interceptCall(MethodDescriptor<Q, A> method,
        CallOptions options, Channel next) {
      return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
        @Override
        public void sendMessage(Q request) {
          StatusRuntimeException refusal = refusal(request);
          if (refusal != null) {
            throw refusal; // the stream goes on with what is sent next
          }
          super.sendMessage(request);
        }
      };
    }
  };

  private Text() {}

  /** Throws what {@link #refusal} gives, if that is an error, as the client's own. */
  static void check(Object request) {
    StatusRuntimeException refusal = refusal(request);
    if (refusal != null) {
      throw new BusException(refusal);
    }
  }

  /**
   * How the server would refuse a text that is none, if it could be sent: INVALID_ARGUMENT, and the
   * field's path. Null if all can be sent.
   */
  private static StatusRuntimeException refusal(Object request) {
    String path = request instanceof Message message ? find(message, "") : null;
    if (path == null) {
      return null;
    }
    String why = "half of a surrogate pair is no text";
    BadRequest refused = BadRequest.newBuilder().addFieldViolations(BadRequest.FieldViolation
        .newBuilder().setField(path).setDescription(why)).build();
    ErrorInfo info = ErrorInfo.newBuilder().setReason("VALIDATION_FAILED").setDomain("threadbus")
        .build();
    return StatusProto.toStatusRuntimeException(com.google.rpc.Status.newBuilder()
        .setCode(Status.Code.INVALID_ARGUMENT.value()).setMessage(path + ": " + why)
        .addDetails(Any.pack(info)).addDetails(Any.pack(refused)).build());
  }

  /** The path of the first text that is none; null if there is none. */
  private static String find(Message message, String at) {
    for (Map.Entry<FieldDescriptor, Object> entry : message.getAllFields().entrySet()) {
      String found = find(entry.getKey(), entry.getValue(), at + entry.getKey().getName());
      if (found != null) {
        return found;
      }
    }
    return null;
  }

  private static String find(FieldDescriptor field, Object value, String at) {
    if (!field.isRepeated()) {
      return findOne(value, at);
    }
    List<?> items = (List<?>) value;
    for (int i = 0; i < items.size(); i++) {
      Object item = items.get(i);
      String path = at + "[" + i + "]";
      if (field.isMapField()) {
        Message pair = (Message) item; // of a key and a value
        String key = String.valueOf(pair.getField(field.getMessageType().findFieldByNumber(1)));
        path = at + "[\"" + HALF.matcher(key).replaceAll("\uFFFD") + "\"]";
        if (HALF.matcher(key).find()) {
          return path;
        }
        item = pair.getField(field.getMessageType().findFieldByNumber(2));
      }
      String found = findOne(item, path);
      if (found != null) {
        return found;
      }
    }
    return null;
  }

  private static String findOne(Object value, String at) {
    if (value instanceof Message message) {
      return find(message, at + ".");
    }
    return value instanceof String text && HALF.matcher(text).find() ? at : null;
  }
}
