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
 * Refuses text that UTF-8 cannot represent: half of a surrogate pair. protobuf-java would silently
 * send {@code ?} instead.
 */
final class Text {
  private static final Pattern HALF = Pattern.compile("\\p{Cs}"); // a pair is one code point

  /** Checks the requests of generated stubs. */
  static final ClientInterceptor CHECKED = new ClientInterceptor() {
    @Override
    public <Q, A> ClientCall<Q, A> interceptCall(MethodDescriptor<Q, A> method,
        CallOptions options, Channel next) {
      return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
        @Override
        public void sendMessage(Q request) {
          StatusRuntimeException refusal = refusal(request);
          if (refusal != null) {
            throw refusal; // the stream stays usable
          }
          super.sendMessage(request);
        }
      };
    }
  };

  private Text() {}

  /** Throws BusException if {@link #refusal} returns an error. */
  static void check(Object request) {
    StatusRuntimeException refusal = refusal(request);
    if (refusal != null) {
      throw new BusException(refusal);
    }
  }

  /**
   * Returns INVALID_ARGUMENT with the field's path if a text cannot be sent, as the server does for
   * an invalid field; null if the request can be sent.
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

  /** Returns the path of the first text that cannot be sent, or null. */
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
        Message pair = (Message) item; // key and value
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
