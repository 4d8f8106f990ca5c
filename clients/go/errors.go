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

// Error is a refusal, whose Reason errors.proto explains; or no answer, and Reason is empty.
type Error struct {
	Code     codes.Code
	Reason   string            // such as SEQ_CONFLICT
	Metadata map[string]string // as errors.proto says for the reason
	Message  string
	Details  []any // *errdetails.BadRequest, *errdetails.ResourceInfo …

	RetryDelay time.Duration // the server asks to wait so long before coming again
	Retryable  bool          // the same call may succeed later
	// Perhaps it was done: repeat a post with the same request id, or not at all.
	OutcomeUnknown bool
	RequestID      string // of a Post

	status *status.Status
}

// ErrorOf tells what err, such as a stub returns it, says; nil for nil.
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
		e.Retryable, e.OutcomeUnknown = e.Code == codes.Unavailable, e.Code == codes.Internal
		return e
	}
	if refused := refusedInHTTP(from); refused != nil {
		e.Code, e.status = refused.Code(), refused
		e.Retryable = e.Code == codes.Unavailable // 429: too many calls
		return e
	}
	if unparsed(from) { // it was answered, but nobody knows how
		e.OutcomeUnknown = true
		return e
	}
	switch e.Code { // the connection broke, or the time was up
	case codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.Internal, codes.Unavailable:
		e.Retryable, e.OutcomeUnknown = true, true
	}
	return e
}

// inHTTP finds what a proxy answered instead of the server, as grpc-go words it.
var inHTTP = regexp.MustCompile(`^unexpected HTTP status code received from server: (\d{3})`)

// refusedInHTTP is the status of what a proxy refused, 3xx or 4xx: it did not reach the server.
// gRPC has INTERNAL or UNKNOWN for most of these, as if it might have been done. Nil for all else;
// a proxy that waited too long (408) leaves open what became of it.
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

// unparsed tells whether what the server sent cannot be parsed, its text for want of UTF-8.
func unparsed(from *status.Status) bool {
	return strings.HasPrefix(from.Message(), "grpc: failed to unmarshal the received message")
}

// CodeName is the code as the contract writes it, such as NOT_FOUND.
func (e *Error) CodeName() string { return code.Code(e.Code).String() }

func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%s: %s", e.CodeName(), e.Message)
	}
	return fmt.Sprintf("%s (%s): %s", e.CodeName(), e.Reason, e.Message)
}

// GRPCStatus is the status that the call ended with: status.Code and the like know it.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// CursorLost says that the cursor is of another history of the thread. To follow
// Resync.Position.Cursor goes on.
type CursorLost struct{ Resync *pb.WaitResync }

func (e *CursorLost) Error() string {
	asked := e.Resync.GetRequested()
	return fmt.Sprintf("%v: %s is not what it was at %d", e.Resync.Reason, asked.GetThread(),
		asked.GetAfterSeq())
}

// GRPCStatus is what a call with such a cursor ends with.
func (e *CursorLost) GRPCStatus() *status.Status { return status.New(codes.OutOfRange, e.Error()) }
