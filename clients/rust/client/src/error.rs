use std::{collections::HashMap, error::Error as _, fmt, time::Duration};

use threadbus_proto::v1::{Cursor, WaitResync, wait_resync::Reason};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{Unanswered, connection::HTTP};

/// A failed call. `reason`, see errors.proto, is empty if no server responded.
#[derive(Debug, Clone)]
pub struct Error {
    /// Code, message and details. `tonic_types::StatusExt` reads BadRequest, ResourceInfo …
    pub status: Status,
    /// For example `SEQ_CONFLICT`.
    pub reason: String,
    /// The metadata of the reason, for example `last_seq`.
    pub metadata: HashMap<String, String>,
    /// The pause before a retry that the server asks for; 0 if it does not.
    pub retry_delay: Duration,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// Whether the call may have been carried out: repeat a post with its `request_id`, or not at
    /// all.
    pub outcome_unknown: bool,
    /// Set only by `follow` and `inbox`, with the code OUT_OF_RANGE, if messages are not kept any more,
    /// or the cursor is of a former epoch of the thread or past its end. To continue, follow from its
    /// position; before another `inbox`, mark that as read.
    pub resync: Option<Box<WaitResync>>,
    /// Set only by `ask`, with the code FAILED_PRECONDITION, if a reply may not come.
    pub unanswered: Option<Box<Unanswered>>,
}

impl Error {
    /// The status's code.
    pub fn code(&self) -> Code {
        self.status.code()
    }

    /// The code's name, for example `NOT_FOUND`.
    pub fn code_name(&self) -> &'static str {
        match self.status.code() {
            Code::Ok => "OK",
            Code::Cancelled => "CANCELLED",
            Code::Unknown => "UNKNOWN",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::NotFound => "NOT_FOUND",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Aborted => "ABORTED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::DataLoss => "DATA_LOSS",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// The status message: what happened, and what to do.
    pub fn message(&self) -> &str {
        self.status.message()
    }

    /// Whether it means only that the server is unreachable or busy.
    pub(crate) fn is_disconnection(&self) -> bool {
        let away =
            matches!(self.code(), Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded);
        matches!(&*self.reason, "DRAINING" | "STORE_BUSY") || away && self.outcome_unknown
    }

    /// Adds a hint if no call of the client was answered yet. Until one is, the server may expect
    /// TLS or a client certificate, and tonic says only that it hung up.
    pub(crate) fn hinted(mut self) -> Self {
        if self.code() == Code::Unavailable && self.outcome_unknown && closed_early(&self.status) {
            self.status = Status::unavailable(format!(
                "{}: the server closes the connection; it may use TLS (tls://HOST:PORT), or \
                 require a client certificate",
                self.message()
            ));
        }
        self
    }

    pub(crate) fn cursor_lost(resync: WaitResync) -> Self {
        let Cursor { thread, after_seq, .. } = resync.requested.clone().unwrap_or_default();
        let why = match resync.reason() {
            Reason::Compacted => {
                format!("messages after {after_seq} of {thread} are not kept any more")
            }
            _ => format!("the cursor of {thread} is lost"),
        };
        let message = format!("{}: {why}", resync.reason().as_str_name());
        Self { resync: Some(Box::new(resync)), ..Status::out_of_range(message).into() }
    }

    /// Whether messages are not kept any more.
    pub(crate) fn is_compacted(&self) -> bool {
        self.resync.as_ref().is_some_and(|resync| resync.reason() == Reason::Compacted)
    }

    pub(crate) fn unanswered(unanswered: Unanswered) -> Self {
        let Unanswered { reason, agent, thread, seq } = &unanswered;
        let message = format!("no reply to message {seq} of {thread}: {agent} {reason}");
        let error: Self = Status::failed_precondition(message).into();
        Self { unanswered: Some(Box::new(unanswered)), ..error }
    }

    /// Returns an error for a violation of the contract.
    pub(crate) fn broken(sent: String) -> Self {
        let error: Self = Status::internal(format!("the server sent {sent}")).into();
        Self { retryable: false, outcome_unknown: false, ..error }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let status = by_connection(status);
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == "threadbus").cloned();
        let (retryable, outcome_unknown) = match (&info, status.code()) {
            (Some(_), Code::Unavailable) => (true, false),
            (Some(info), _) if info.reason == "RATE_LIMITED" => (true, false),
            (Some(_), Code::Internal) => (false, true),
            (None, Code::Cancelled | Code::Unknown | Code::DeadlineExceeded) => (true, true),
            (None, Code::Unavailable) if untrusted(&status) => (false, false),
            (None, Code::Unavailable) => (true, !too_many_calls(&status)),
            (None, Code::Internal) => (!unparsed(&status), true),
            _ => (false, false),
        };
        let (reason, metadata) = info.map(|info| (info.reason, info.metadata)).unwrap_or_default();
        let retry_delay =
            details.retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
        Self {
            status,
            reason,
            metadata,
            retry_delay,
            retryable,
            outcome_unknown,
            resync: None,
            unanswered: None,
        }
    }
}

/// Whether a proxy refused the call for now (HTTP 429): nothing was done.
fn too_many_calls(status: &Status) -> bool {
    status.message().strip_prefix(HTTP).is_some_and(|http| http.starts_with("429"))
}

/// Whether a handshake failed in a way that a retry cannot fix: one side refuses the other's
/// certificate, or the server does not use TLS. Matches rustls's texts.
fn untrusted(status: &Status) -> bool {
    let text = status.message();
    text.starts_with("invalid peer certificate")
        || text.starts_with("received corrupt message of type InvalidContentType")
        || text.starts_with("received fatal alert") && text.contains("Certificate")
}

/// Whether the server closed the connection before it responded.
fn closed_early(status: &Status) -> bool {
    let text = status.message();
    ["broken pipe", "reset", "closed", "close_notify"].iter().any(|part| text.contains(part))
}

/// Whether the response could not be parsed, for example because of invalid UTF-8.
pub(crate) fn unparsed(status: &Status) -> bool {
    status.message().starts_with("failed to decode Protobuf message") // tonic's text
}

/// Converts the status of a failed connection to UNAVAILABLE, as in other gRPC libraries. tonic's
/// is UNKNOWN or CANCELLED with "transport error"; unlike a server's, it has a source. The deepest
/// source is the cause.
fn by_connection(status: Status) -> Status {
    let Some(cause) = status.source() else { return status };
    Status::unavailable(deepest(cause).to_string())
}

/// Returns the deepest source of an error: its cause.
pub(crate) fn deepest<'a>(
    mut cause: &'a (dyn std::error::Error + 'static),
) -> &'a dyn std::error::Error {
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, reason) = (self.code_name(), &self.reason);
        let slash = if reason.is_empty() { "" } else { " / " };
        write!(f, "{code}{slash}{reason}: {}", self.message())
    }
}

impl std::error::Error for Error {}
