package threadbus

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	pb "threadbus.dev/gen/go/threadbus/v1"
)

const (
	firstFrame     = 20 * time.Second      // for a wait to connect and to say `started`
	longestFailing = time.Minute           // for waits to fail, not only to be cut off, without progress
	settled        = time.Second           // for a wait to live that is not just cut off each time
	idlePause      = 20 * time.Millisecond // after a frame that is no progress: they may be many
)

// Message is a message that was followed, with the history that its seq counts in.
type Message struct {
	*pb.Message
	Epoch string
}

// Cursor is the position after the message, for MarkRead and to follow from later.
func (m *Message) Cursor() *pb.Cursor {
	return &pb.Cursor{Thread: m.Thread, AfterSeq: m.Seq, Epoch: m.Epoch}
}

// FollowOptions say what Follow delivers and how. The zero value is what most agents want.
type FollowOptions struct {
	// Which messages to deliver. Nil = all but the agent's own.
	Filter *pb.MessageFilter
	// Go on where the server does when the cursor is lost, rather than end with *CursorLost.
	ContinueOnResync bool
}

// Follow gives what comes after the cursor, then what is posted, as it is posted: each message
// once, in order, across reconnects, whatever the server sends. It ends when the thread is closed,
// the session has ended, ctx is done (ctx.Err tells) or the client is closed. Or an error comes
// last: *CursorLost, or *Error for what coming again does not cure, or has not in a minute.
func (c *Client) Follow(
	ctx context.Context, cursor *pb.Cursor, options FollowOptions,
) iter.Seq2[*Message, error] {
	filter := options.Filter
	if filter == nil {
		filter = &pb.MessageFilter{ExcludeOwn: true}
	}
	return func(yield func(*Message, error) bool) {
		ctx, cancel := during(c.session, ctx)
		defer cancel()
		tell := func(message *Message, err error) bool {
			return ctx.Err() == nil && yield(message, err)
		}
		at := position{cursor: cursor, filtered: proto.Size(filter) > 0}
		request := &pb.WaitMessagesRequest{Threads: []*pb.Cursor{cursor}, Filter: filter}
		if err := sendable(request); err != nil {
			tell(nil, err)
			return
		}
		var failing time.Time                             // since when; zero = it is not
		for failures := 0; ctx.Err() == nil; failures++ { // without progress
			delay := time.Duration(0) // that the server asks for
			opened, caughtUp := time.Now(), false
			request.Threads[0] = at.cursor
			for frame, err := range c.wait(ctx, request) {
				if failure := ErrorOf(err); failure != nil {
					if !disconnection(failure) {
						if failing.IsZero() {
							failing = time.Now()
						}
						if final(failure) || time.Since(failing) >= longestFailing {
							tell(nil, failure)
							return
						}
					}
					delay = failure.RetryDelay
					break
				}
				before, resync := at.cursor.GetAfterSeq(), frame.GetResync()
				messages, err := at.take(frame)
				if err == nil && resync != nil && !options.ContinueOnResync {
					err = &CursorLost{resync}
				}
				if err != nil {
					tell(nil, err)
					return
				}
				for _, message := range messages {
					if !tell(message, nil) {
						return
					}
				}
				moved := resync == nil && at.cursor.GetAfterSeq() > before
				progress := moved || !caughtUp && frame.GetCaughtUp() != nil
				caughtUp = caughtUp || frame.GetCaughtUp() != nil
				if moved {
					failures = 0
				}
				if progress {
					failing = time.Time{}
				}
				if ending := frame.GetEnding(); ending != nil { // whatever the status after it
					switch ending.Reason {
					case pb.WaitEnding_REASON_THREADS_CLOSED, pb.WaitEnding_REASON_SESSION_ENDED:
						return
					}
					delay = ending.RetryDelay.AsDuration()
					break
				}
				if !progress && frame.GetStarted() == nil {
					sleep(ctx, idlePause)
				}
			}
			if caughtUp && time.Since(opened) >= settled {
				failures = 0
			}
			sleep(ctx, max(backoff(failures), asked(delay)))
		}
	}
}

// wait gives the frames of one WaitMessages and, last, why it ended.
func (c *Client) wait(
	ctx context.Context, request *pb.WaitMessagesRequest,
) iter.Seq2[*pb.WaitMessagesResponse, error] {
	return func(yield func(*pb.WaitMessagesResponse, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // a stream that is only left stays open
		ctx, conn := c.current(ctx)
		patience := firstFrame
		watchdog := time.AfterFunc(patience, func() { c.renew(conn) }) // and so break the stream
		defer watchdog.Stop()
		c.sending.RLock()
		stream, err := pb.NewBusServiceClient(conn).WaitMessages(ctx, request,
			grpc.WaitForReady(true)) // unary calls tell why there is no connection
		c.sending.RUnlock()
		for {
			var frame *pb.WaitMessagesResponse
			if err == nil {
				frame, err = stream.Recv()
			}
			watchdog.Stop() // the time that the caller takes is its own
			if started := frame.GetStarted(); started != nil {
				patience = silence(started.KeepaliveInterval)
			}
			switch {
			case errors.Is(err, io.EOF):
				err = status.Error(codes.Unavailable, "the stream ended without an ending")
			case err != nil && unparsed(status.Convert(err)):
				err = broken("a frame that cannot be parsed")
			}
			if !yield(frame, err) || err != nil {
				return
			}
			watchdog.Reset(patience)
		}
	}
}

// silence is how long to wait for a frame when so much was granted: what the contract allows.
func silence(granted *durationpb.Duration) time.Duration {
	interval := granted.AsDuration()
	if interval <= 0 {
		interval = 45 * time.Second // as if none was asked for
	}
	return min(max(interval, time.Second), 5*time.Minute) * 5 / 2
}

// disconnection tells whether a failure says no more than that the server is away, or busy.
func disconnection(failure *Error) bool {
	switch failure.Code {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
	default:
		return false
	}
	return failure.Reason == "DRAINING" || failure.Reason == "STORE_BUSY" || failure.OutcomeUnknown
}

// final tells whether a wait is refused for a reason that coming again does not cure.
func final(failure *Error) bool {
	bug := failure.Code == codes.Internal && failure.Reason != ""
	return !failure.Retryable && !bug
}
