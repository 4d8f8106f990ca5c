package dev.threadbus.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;

/** A refusal, whose {@link #reason} errors.proto explains; or no answer, and it is empty. */
public final class BusException extends RuntimeException {
  private static final Set<Status.Code> NO_ANSWER = EnumSet.of(Status.Code.CANCELLED,
      Status.Code.UNKNOWN, Status.Code.DEADLINE_EXCEEDED, Status.Code.INTERNAL,
      Status.Code.UNAVAILABLE);

  private final Status.Code code;
  private final List<Any> details;
  private final boolean outcomeUnknown;
  private ErrorInfo info = ErrorInfo.getDefaultInstance();
  private RetryInfo retry = RetryInfo.getDefaultInstance();

  /** What the StatusException or StatusRuntimeException of a generated stub means. */
  public BusException(Throwable failure) {
    this(failure, false);
  }

  /** With {@code inDoubt} an earlier try of the same call had no answer. */
  BusException(Throwable failure, boolean inDoubt) {
    super(describe(Status.fromThrowable(failure)), failure);
    code = Status.fromThrowable(failure).getCode();
    com.google.rpc.Status status = StatusProto.fromThrowable(failure);
    details = status == null ? List.of() : status.getDetailsList();
    try {
      for (Any detail : details) {
        if (detail.is(RetryInfo.class)) {
          retry = detail.unpack(RetryInfo.class);
        } else if (detail.is(ErrorInfo.class)) {
          ErrorInfo found = detail.unpack(ErrorInfo.class);
          info = found.getDomain().equals("threadbus") ? found : info;
        }
      }
    } catch (InvalidProtocolBufferException ignored) {
      // Not from this server, then: what could be read stands.
    }
    boolean noWord = reason().isEmpty() ? retryable() : code == Status.Code.INTERNAL;
    // A refusal ends the doubt, unless it is the token's, which is looked at first.
    outcomeUnknown = noWord || inDoubt && (retryable() || code == Status.Code.UNAUTHENTICATED);
  }

  private static String describe(Status status) {
    Throwable cause = status.getCause(); // of "io exception", say: connection refused
    String said = Objects.requireNonNullElse(status.getDescription(), status.getCode().name());
    return cause == null ? said : said + ": " + cause.getMessage();
  }

  /** The status code, such as ABORTED. */
  public Status.Code code() {
    return code;
  }

  /** Why, such as SEQ_CONFLICT: an ErrorReason without its prefix. Empty = the bus did not say. */
  public String reason() {
    return info.getReason();
  }

  /** What the reason comes with, such as last_seq. */
  public Map<String, String> metadata() {
    return info.getMetadataMap();
  }

  /** All details of the status: BadRequest, ResourceInfo and so on, from com.google.rpc. */
  public List<Any> details() {
    return details;
  }

  /** How long the server asks to wait before the next try; zero when it does not say. */
  public Duration retryDelay() {
    return Duration.ofMillis(ThreadBus.milliseconds(retry.getRetryDelay()));
  }

  /** Whether the same call may go well later. */
  public boolean retryable() {
    return reason().isEmpty() ? NO_ANSWER.contains(code) : code == Status.Code.UNAVAILABLE;
  }

  /** Perhaps it was done: repeat a post with the same request_id, or not at all. */
  public boolean outcomeUnknown() {
    return outcomeUnknown;
  }
}
