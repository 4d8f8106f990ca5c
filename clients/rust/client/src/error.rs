use std::{collections::HashMap, error::Error as _, fmt, time::Duration};

use threadbus_proto::v1::WaitResync;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::connection::HTTP;

/// A refusal, whose `reason` errors.proto explains; or no answer, and `reason` is empty.
#[derive(Debug, Clone)]
pub struct Error {
    /// Code, message and details. `tonic_types::StatusExt` reads BadRequest, ResourceInfo …
    pub status: Status,
    /// Such as `SEQ_CONFLICT`.
    pub reason: String,
    /// What belongs to the reason, such as `last_seq`.
    pub metadata: HashMap<String, String>,
    /// The server asks to wait so long before coming again.
    pub retry_delay: Duration,
    /// Coming again may cure it.
    pub retryable: bool,
    /// Perhaps it was done: repeat a post with the same `request_id`, or not at all.
    pub outcome_unknown: bool,
    /// Only from `follow`, with the code OUT_OF_RANGE: the cursor is of another history of the
    /// thread. To go on, follow from the position that this names.
    pub resync: Option<Box<WaitResync>>,
}

impl Error {
    /// The status's code.
    pub fn code(&self) -> Code {
        self.status.code()
    }

    /// The code as gRPC spells it, such as `NOT_FOUND`.
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

    /// What happened, and what to do.
    pub fn message(&self) -> &str {
        self.status.message()
    }

    /// Whether it says no more than that the server is away, or busy.
    pub(crate) fn is_disconnection(&self) -> bool {
        let away =
            matches!(self.code(), Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded);
        matches!(&*self.reason, "DRAINING" | "STORE_BUSY") || away && self.outcome_unknown
    }

    pub(crate) fn cursor_lost(resync: WaitResync) -> Self {
        let thread = resync.requested.as_ref().map_or("", |cursor| &cursor.thread);
        let message = format!("{}: the cursor of {thread} is lost", resync.reason().as_str_name());
        Self { resync: Some(Box::new(resync)), ..Status::out_of_range(message).into() }
    }

    /// For what the contract rules out.
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
            (Some(_), Code::Internal) => (false, true),
            (None, Code::Cancelled | Code::Unknown | Code::DeadlineExceeded) => (true, true),
            (None, Code::Unavailable) => (true, !too_many_calls(&status)),
            (None, Code::Internal) => (!unparsed(&status), true),
            _ => (false, false),
        };
        let (reason, metadata) = info.map(|info| (info.reason, info.metadata)).unwrap_or_default();
        let retry_delay =
            details.retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
        Self { status, reason, metadata, retry_delay, retryable, outcome_unknown, resync: None }
    }
}

/// A proxy takes no more calls for now: nothing was done.
fn too_many_calls(status: &Status) -> bool {
    status.message().strip_prefix(HTTP).is_some_and(|http| http.starts_with("429"))
}

/// What the server sent cannot be parsed, its text for want of UTF-8.
pub(crate) fn unparsed(status: &Status) -> bool {
    status.message().starts_with("failed to decode Protobuf message") // tonic's words
}

/// A status that has a source is not the server's: the connection failed. tonic then says UNKNOWN
/// or CANCELLED and "transport error"; gRPC has UNAVAILABLE for it, and the deepest source the cause.
fn by_connection(status: Status) -> Status {
    let Some(mut cause) = status.source() else { return status };
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Status::unavailable(cause.to_string())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, reason) = (self.code_name(), &self.reason);
        let slash = if reason.is_empty() { "" } else { " / " };
        write!(f, "{code}{slash}{reason}: {}", self.message())
    }
}

impl std::error::Error for Error {}
