package dev.threadbus.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.security.cert.CertificateException;
import java.time.Duration;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.net.ssl.SSLException;

/** A call failed. {@link #reason}, see errors.proto, is empty if no server responded. */
public final class BusException extends RuntimeException {
  private static final Set<Status.Code> NO_ANSWER = EnumSet.of(Status.Code.CANCELLED,
      Status.Code.UNKNOWN, Status.Code.DEADLINE_EXCEEDED, Status.Code.INTERNAL,
      Status.Code.UNAVAILABLE);

  private static final Set<Status.Code> AWAY = EnumSet.of(Status.Code.CANCELLED,
      Status.Code.DEADLINE_EXCEEDED, Status.Code.UNAVAILABLE);
  private static final Set<String> BUSY = Set.of("DRAINING", "STORE_BUSY");
  /** Matches grpc-java's text for an HTTP status, which a proxy returned. */
  private static final Pattern IN_HTTP = Pattern.compile("HTTP status code ([34]\\d\\d)\\b");

  private final Status.Code code;
  private final List<Any> details;
  private final boolean retryable;
  private final boolean outcomeUnknown;
  private ErrorInfo info = ErrorInfo.getDefaultInstance();
  private RetryInfo retry = RetryInfo.getDefaultInstance();

  /** Converts the StatusException or StatusRuntimeException of a generated stub. */
  public BusException(Throwable failure) {
    this(failure, false, false);
  }

  /** {@code inDoubt}: whether the outcome of an earlier attempt is unknown. */
  BusException(Throwable failure, boolean inDoubt) {
    this(failure, inDoubt, false);
  }

  private BusException(Throwable failure, boolean inDoubt, boolean certain) {
    super(describe(failure), failure);
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
      // The details are not from a ThreadBus server: keep what was parsed.
    }
    boolean answered = !reason().isEmpty();
    boolean last = certain || !answered && untrusted(failure) != null;
    boolean sure = answered || refusal != null || last;
    boolean later = code == Status.Code.UNAVAILABLE || reason().equals("RATE_LIMITED"); // 429, too
    retryable = sure ? !last && later
        : NO_ANSWER.contains(code) && !unparsed;
    boolean noWord = sure ? answered && code == Status.Code.INTERNAL : retryable || unparsed;
    // A refusal by the server settles earlier attempts, except UNAUTHENTICATED.
    boolean refused = answered && !retryable && code != Status.Code.UNAUTHENTICATED;
    outcomeUnknown = noWord || inDoubt && !refused;
  }

  /** Returns the exception for a frame that violates the contract. */
  static BusException broken(String sent) {
    return new BusException(status(sent), false, true);
  }

  /** Returns the exception for a response that violates the contract; the outcome is unknown. */
  static BusException brokenAnswer(String sent) {
    return new BusException(status(sent), true, true);
  }

  /** Returns the exception for a thread that was interrupted while it waited for a reply. */
  static BusException interrupted() {
    Status status = Status.CANCELLED.withDescription("interrupted while waiting for a reply");
    return new BusException(status.asRuntimeException(), false, true);
  }

  private static RuntimeException status(String sent) {
    return Status.INTERNAL.withDescription("the server sent " + sent).asRuntimeException();
  }

  /**
   * Returns the code for a call that a proxy refused with HTTP 3xx or 4xx, so that it did not reach
   * the server. gRPC maps most of these to INTERNAL or UNKNOWN, as if the outcome were unknown.
   * Null otherwise, and for 408, a proxy timeout, after which the outcome is unknown.
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

  /** Whether the response could not be parsed; grpc-java returns CANCELLED then. */
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

  /**
   * Returns the cause of a handshake that a retry cannot fix: one side refuses the other's
   * certificate, or the server does not use TLS. Null if there is none.
   */
  private static Throwable untrusted(Throwable failure) {
    for (Throwable cause = failure.getCause(); cause != null; cause = cause.getCause()) {
      String text = Objects.requireNonNullElse(cause.getMessage(), "").toLowerCase(Locale.ROOT);
      boolean alert = cause instanceof SSLException && text.contains("certificate");
      String name = cause.getClass().getSimpleName(); // one of the shaded Netty
      if (cause instanceof CertificateException || alert || name.equals("NotSslRecordException")) {
        return cause;
      }
    }
    return null;
  }

  private static String describe(Throwable failure) {
    Status status = Status.fromThrowable(failure);
    Throwable cause = untrusted(failure);
    if (cause == null) {
      cause = status.getCause(); // for example "connection refused" for "io exception"
    }
    String said = Objects.requireNonNullElse(status.getDescription(), status.getCode().name());
    return cause == null ? said : said + ": " + cause.getMessage();
  }

  /** The status code, for example ABORTED. */
  public Status.Code code() {
    return code;
  }

  /** The reason, for example SEQ_CONFLICT: an ErrorReason without its prefix, or empty. */
  public String reason() {
    return info.getReason();
  }

  /** The metadata of the reason, for example last_seq. */
  public Map<String, String> metadata() {
    return info.getMetadataMap();
  }

  /** All details of the status, from com.google.rpc: BadRequest, ResourceInfo and others. */
  public List<Any> details() {
    return details;
  }

  /** The pause before a retry that the server asks for; zero if it does not. */
  public Duration retryDelay() {
    return Duration.ofMillis(ThreadBus.milliseconds(retry.getRetryDelay()));
  }

  /** Whether it means only that the server is unreachable or busy. */
  boolean isDisconnection() {
    return BUSY.contains(reason()) || AWAY.contains(code) && outcomeUnknown;
  }

  /** Whether the same call may succeed later. */
  public boolean retryable() {
    return retryable;
  }

  /** Whether the call may have been done: repeat a post with its request_id, or not at all. */
  public boolean outcomeUnknown() {
    return outcomeUnknown;
  }
}
