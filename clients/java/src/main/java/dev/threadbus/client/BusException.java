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
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** A refusal, whose {@link #reason} errors.proto explains; or no answer, and it is empty. */
public final class BusException extends RuntimeException {
  private static final Set<Status.Code> NO_ANSWER = EnumSet.of(Status.Code.CANCELLED,
      Status.Code.UNKNOWN, Status.Code.DEADLINE_EXCEEDED, Status.Code.INTERNAL,
      Status.Code.UNAVAILABLE);

  private final Status.Code code;
  private final List<Any> details;
  private String reason = "";
  private Map<String, String> metadata = Map.of();
  private Duration retryDelay = Duration.ZERO;
  private boolean inDoubt;

  /** What the StatusException or StatusRuntimeException of a generated stub means. */
  public BusException(Throwable failure) {
    super(describe(Status.fromThrowable(failure)), failure);
    code = Status.fromThrowable(failure).getCode();
    com.google.rpc.Status status = StatusProto.fromThrowable(failure);
    details = status == null ? List.of() : status.getDetailsList();
    try {
      for (Any detail : details) {
        if (detail.is(ErrorInfo.class)) {
          ErrorInfo info = detail.unpack(ErrorInfo.class);
          if (info.getDomain().equals("threadbus")) {
            reason = info.getReason();
            metadata = info.getMetadataMap();
          }
        } else if (detail.is(RetryInfo.class)) {
          retryDelay = ThreadBus.duration(detail.unpack(RetryInfo.class).getRetryDelay());
        }
      }
    } catch (InvalidProtocolBufferException ignored) {
      // Not from this server, then: what could be read stands.
    }
    inDoubt = reason.isEmpty() ? retryable() : code == Status.Code.INTERNAL;
  }

  /** The status code, such as ABORTED. */
  public Status.Code code() {
    return code;
  }

  /** Why, such as SEQ_CONFLICT: an ErrorReason without its prefix. Empty = the bus did not say. */
  public String reason() {
    return reason;
  }

  /** What the reason comes with, such as last_seq. */
  public Map<String, String> metadata() {
    return metadata;
  }

  /** All details of the status: BadRequest, ResourceInfo and so on, from com.google.rpc. */
  public List<Any> details() {
    return details;
  }

  /** How long the server asks to wait before the next try; zero when it does not say. */
  public Duration retryDelay() {
    return retryDelay;
  }

  /** Whether the same call may go well later. */
  public boolean retryable() {
    return reason.isEmpty() ? NO_ANSWER.contains(code) : code == Status.Code.UNAVAILABLE;
  }

  /** Perhaps it was done: repeat a post with the same request_id, or not at all. */
  public boolean outcomeUnknown() {
    return inDoubt;
  }

  private static String describe(Status status) {
    String cause = status.getCause() == null ? null : status.getCause().getMessage();
    return Stream.of(status.getDescription(), cause) // such as: io exception, connection refused
        .filter(Objects::nonNull).collect(Collectors.joining(": "));
  }

  /** Coming again does not cure it. */
  boolean isFinal() {
    return !retryable() && code != Status.Code.INTERNAL;
  }

  /** An earlier try had no answer, so this one's does not tell what became of it. */
  BusException inDoubt() {
    inDoubt = true;
    return this;
  }
}
