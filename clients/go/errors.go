package threadbus

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pb "threadbus.dev/gen/go/threadbus/v1"
)

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
			if detail.Domain == "threadbus" {
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
	switch e.Code { // the connection broke, or the time was up
	case codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.Internal, codes.Unavailable:
		e.Retryable, e.OutcomeUnknown = true, true
	}
	return e
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
