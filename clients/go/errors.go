package threadbus

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pb "threadbus.dev/gen/go/threadbus/v1"
)

const domain = "threadbus" // of the server's own ErrorInfo

// Error describes a failed call. Reason, see errors.proto, is empty if no server responded.
type Error struct {
	Code     codes.Code
	Reason   string            // such as SEQ_CONFLICT
	Metadata map[string]string // its keys are in errors.proto
	Message  string
	Details  []any // *errdetails.BadRequest, *errdetails.ResourceInfo …

	RetryDelay time.Duration // the server asks for this pause before a retry
	Retryable  bool          // the same call may succeed later
	// The call may have been carried out: repeat a post with the same request id, or not at all.
	OutcomeUnknown bool
	RequestID      string // of the post, if it was one

	status *status.Status
}

// ErrorOf converts err, for example from a stub, to an *Error. It returns nil for nil.
func ErrorOf(err error) *Error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	from := status.Convert(err)
	e := &Error{Code: from.Code(), Message: from.Message(), Details: from.Details(), status: from}
	for _, detail := range e.Details {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.Domain == domain {
				e.Reason, e.Metadata = detail.Reason, detail.Metadata
			}
		case *errdetails.RetryInfo:
			e.RetryDelay = detail.RetryDelay.AsDuration()
		}
	}
	if e.Reason != "" {
		e.Retryable = e.Code == codes.Unavailable || e.Reason == "RATE_LIMITED"
		e.OutcomeUnknown = e.Code == codes.Internal
		return e
	}
	if refused := refusedInHTTP(from); refused != nil {
		e.Code, e.status = refused.Code(), refused
		e.Retryable = e.Code == codes.Unavailable // 429: too many calls
		return e
	}
	if e.Code == codes.Unavailable && untrusted.MatchString(e.Message) {
		return e // nothing was sent
	}
	if unparsed(from) { // there was a response, but it could not be parsed
		e.OutcomeUnknown = true
		return e
	}
	switch e.Code { // the connection broke, or the deadline passed
	case codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.Internal, codes.Unavailable:
		e.Retryable, e.OutcomeUnknown = true, true
	}
	return e
}

// untrusted matches the text for a handshake that a retry cannot fix: one side refuses the
// other's certificate, or the server does not use TLS.
var untrusted = regexp.MustCompile(`tls: failed to verify certificate|` +
	`tls: first record does not look like a TLS handshake|remote error: tls: .*certificate`)

// closedEarly matches the text for a connection that the server closed before it responded.
var closedEarly = regexp.MustCompile(`error reading server preface|broken pipe|connection reset`)

// told converts the error of a call. It keeps whether any call of the client was answered: until one
// is, the server may expect TLS or a client certificate, and gRPC says only that it hung up.
func (c *Client) told(err error) *Error {
	failure := ErrorOf(err)
	switch {
	case failure == nil || failure.Reason != "":
		c.answered.Store(true)
	case !c.answered.Load() && closedEarly.MatchString(failure.Message):
		failure.Message += ": the server closes the connection; it may use TLS (tls://HOST:PORT), or " +
			"require a client certificate"
	}
	return failure
}

// inHTTP matches grpc-go's text for an HTTP status, which a proxy returned instead of the server.
var inHTTP = regexp.MustCompile(`^unexpected HTTP status code received from server: (\d{3})`)

// refusedInHTTP returns the status for a call that a proxy refused with HTTP 3xx or 4xx, so that it
// did not reach the server. gRPC maps most of these to INTERNAL or UNKNOWN, as if the outcome were
// unknown. It returns nil otherwise, and for 408, a proxy timeout, after which the outcome is
// unknown.
func refusedInHTTP(from *status.Status) *status.Status {
	found := inHTTP.FindStringSubmatch(from.Message())
	if found == nil || found[1] < "300" || found[1] >= "500" || found[1] == "408" {
		return nil
	}
	code := from.Code()
	switch {
	case found[1] == "413": // Content Too Large
		code = codes.ResourceExhausted
	case code == codes.Unknown || code == codes.Internal:
		code = codes.FailedPrecondition
	}
	return status.New(code, from.Message())
}

// unparsed reports whether the response could not be parsed, for example because of invalid UTF-8.
func unparsed(from *status.Status) bool {
	return strings.HasPrefix(from.Message(), "grpc: failed to unmarshal the received message")
}

// CodeName returns the code's name as in the contract, for example NOT_FOUND.
func (e *Error) CodeName() string { return code.Code(e.Code).String() }

func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%s: %s", e.CodeName(), e.Message)
	}
	return fmt.Sprintf("%s (%s): %s", e.CodeName(), e.Reason, e.Message)
}

// GRPCStatus returns the status that the call ended with. status.Code and status.FromError use it.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// CursorLost reports that messages are not kept any more, or may be missing as the cursor is of a
// former epoch of the thread, or past its end. To continue, follow from Resync.Position.Cursor. Before
// another Inbox, mark that as read.
type CursorLost struct{ Resync *pb.WaitResync }

func (e *CursorLost) Error() string {
	asked := e.Resync.GetRequested()
	if e.compacted() {
		return fmt.Sprintf("%v: messages %d to %d of %s are not kept any more", e.Resync.Reason,
			asked.GetAfterSeq()+1, e.Resync.GetPosition().GetCursor().GetAfterSeq(), asked.GetThread())
	}
	return fmt.Sprintf("%v: %s is not what it was at %d", e.Resync.Reason, asked.GetThread(),
		asked.GetAfterSeq())
}

// compacted reports whether messages are not kept any more.
func (e *CursorLost) compacted() bool {
	return e.Resync.GetReason() == pb.WaitResync_REASON_COMPACTED
}

// GRPCStatus returns the status that a unary call with such a cursor would have.
func (e *CursorLost) GRPCStatus() *status.Status { return status.New(codes.OutOfRange, e.Error()) }
