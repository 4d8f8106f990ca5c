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
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A refusal, whose {@link #reason} errors.proto explains; or no answer, and it is empty. */
public final class BusException extends RuntimeException {
  private static final Set<Status.Code> NO_ANSWER = EnumSet.of(Status.Code.CANCELLED,
      Status.Code.UNKNOWN, Status.Code.DEADLINE_EXCEEDED, Status.Code.INTERNAL,
      Status.Code.UNAVAILABLE);

  private static final Set<Status.Code> AWAY = EnumSet.of(Status.Code.CANCELLED,
      Status.Code.DEADLINE_EXCEEDED, Status.Code.UNAVAILABLE);
  private static final Set<String> BUSY = Set.of("DRAINING", "STORE_BUSY");
  /** How grpc-java words what a proxy answered in HTTP. */
  private static final Pattern IN_HTTP = Pattern.compile("HTTP status code ([34]\\d\\d)\\b");

  private final Status.Code code;
  private final List<Any> details;
  private final boolean retryable;
  private final boolean outcomeUnknown;
  private ErrorInfo info = ErrorInfo.getDefaultInstance();
  private RetryInfo retry = RetryInfo.getDefaultInstance();

  /** What the StatusException or StatusRuntimeException of a generated stub means. */
  public BusException(Throwable failure) {
    this(failure, false, false);
  }

  /** With {@code inDoubt} an earlier try of the same call had no answer. */
  BusException(Throwable failure, boolean inDoubt) {
    this(failure, inDoubt, false);
  }

  private BusException(Throwable failure, boolean inDoubt, boolean certain) {
    super(describe(Status.fromThrowable(failure)), failure);
    Status.Code refusal = refusedInHttp(Status.fromThrowable(failure));
    boolean unparsed = isUnparsed(failure);
    code = refusal != null ? refusal
        : unparsed ? Status.Code.INTERNAL : Status.fromThrowable(failure).getCode();
    details = detailsOf(failure);
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
    boolean answered = !reason().isEmpty();
    boolean sure = answered || refusal != null || certain;
    retryable = sure ? !certain && code == Status.Code.UNAVAILABLE // 429: too many calls
        : NO_ANSWER.contains(code) && !unparsed;
    boolean noWord = sure ? answered && code == Status.Code.INTERNAL : retryable || unparsed;
    // The server's refusal ends the doubt, but for the token's, which is looked at first.
    boolean refused = answered && !retryable && code != Status.Code.UNAUTHENTICATED;
    outcomeUnknown = noWord || inDoubt && !refused;
  }

  /** What the server sent and the contract rules out. */
  static BusException broken(String sent) {
    return new BusException(status(sent), false, true);
  }

  /** What the server sent for an answer and the contract rules out: perhaps it was done. */
  static BusException brokenAnswer(String sent) {
    return new BusException(status(sent), true, true);
  }

  private static RuntimeException status(String sent) {
    return Status.INTERNAL.withDescription("the server sent " + sent).asRuntimeException();
  }

  /**
   * The code of what a proxy refused in HTTP, 3xx or 4xx: the call did not reach the server. gRPC
   * has INTERNAL or UNKNOWN for most of these, as if it might have been done. Null for all else; a
   * proxy that waited too long (408) leaves open what became of it.
   */
  private static Status.Code refusedInHttp(Status status) {
    Matcher http = IN_HTTP.matcher(Objects.requireNonNullElse(status.getDescription(), ""));
    if (!http.lookingAt() || http.group(1).equals("408")) {
      return null;
    }
    if (http.group(1).equals("413")) {
      return Status.Code.RESOURCE_EXHAUSTED;
    }
    Status.Code code = status.getCode();
    boolean meant = code != Status.Code.UNKNOWN && code != Status.Code.INTERNAL;
    return meant ? code : Status.Code.FAILED_PRECONDITION;
  }

  /** Whether what the server sent cannot be parsed; grpc-java says CANCELLED then. */
  static boolean isUnparsed(Throwable failure) {
    Throwable cause = failure;
    while (cause != null && !(cause instanceof InvalidProtocolBufferException)) {
      cause = cause.getCause();
    }
    return cause != null;
  }

  private static List<Any> detailsOf(Throwable failure) {
    try {
      com.google.rpc.Status status = StatusProto.fromThrowable(failure);
      return status == null ? List.of() : status.getDetailsList();
    } catch (IllegalArgumentException unreadable) {
      return List.of();
    }
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

  /** Whether it says no more than that the server is away, or busy. */
  boolean isDisconnection() {
    return BUSY.contains(reason()) || AWAY.contains(code) && outcomeUnknown;
  }

  /** Whether the same call may go well later. */
  public boolean retryable() {
    return retryable;
  }

  /** Perhaps it was done: repeat a post with the same request_id, or not at all. */
  public boolean outcomeUnknown() {
    return outcomeUnknown;
  }
}
