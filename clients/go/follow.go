package threadbus

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	pb "threadbus.dev/gen/go/threadbus/v1"
)

const (
	firstFrame     = 20 * time.Second      // to connect and receive `started`
	longestFailing = time.Minute           // of failures without progress, see Follow
	settled        = time.Second           // a wait that lives this long resets the backoff
	idlePause      = 20 * time.Millisecond // after a frame without progress: a server may send many
)

// Message is a message of a followed thread, with the epoch in which its seq is valid.
type Message struct {
	*pb.Message
	Epoch string
}

// Cursor returns the position after the message, for MarkRead or a later Follow.
func (m *Message) Cursor() *pb.Cursor {
	return &pb.Cursor{Thread: m.Thread, AfterSeq: m.Seq, Epoch: m.Epoch}
}

// FollowOptions are the options of Follow. The zero value suits most agents.
type FollowOptions struct {
	// Which messages to deliver. Nil = all but the agent's own.
	Filter *pb.MessageFilter
	// When the cursor is lost, continue at the server's position instead of ending with *CursorLost.
	ContinueOnResync bool
}

// Follow yields the messages after cursor, then new ones as they are posted: each once and in order,
// across reconnects, whatever the server sends. It ends when the thread is closed, the session has
// ended, ctx is done (see ctx.Err) or the client is closed. Or it ends with an error: *CursorLost, or
// *Error if retrying cannot help, or has not helped for a minute. Disconnections are retried without
// limit once the server has responded to a call of the client.
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
		var failing time.Time                             // since when; zero = not failing
		for failures := 0; ctx.Err() == nil; failures++ { // without progress
			delay := time.Duration(0) // requested by the server
			opened, caughtUp := time.Now(), false
			request.Threads[0] = at.cursor
			for frame, err := range c.wait(ctx, request) {
				if failure := c.told(err); failure != nil {
					if !disconnection(failure) || !c.answered.Load() {
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
				if ending := frame.GetEnding(); ending != nil { // whatever status follows
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

// wait yields the frames of one WaitMessages call, then the error that ended it, if any.
func (c *Client) wait(
	ctx context.Context, request *pb.WaitMessagesRequest,
) iter.Seq2[*pb.WaitMessagesResponse, error] {
	return func(yield func(*pb.WaitMessagesResponse, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // a stream stays open until it is canceled
		ctx, conn := c.current(ctx)
		patience := firstFrame
		watchdog := time.AfterFunc(patience, func() { c.renew(conn) }) // which breaks the stream
		defer watchdog.Stop()
		c.sending.RLock()
		// Without WaitForReady, which would hide that a certificate is refused. The caller has paused,
		// so gRPC, whose own pause is longer, may try to connect now.
		conn.ResetConnectBackoff()
		stream, err := pb.NewBusServiceClient(conn).WaitMessages(ctx, request)
		c.sending.RUnlock()
		for {
			var frame *pb.WaitMessagesResponse
			if err == nil {
				frame, err = stream.Recv()
			}
			watchdog.Stop() // not while the caller handles the frame
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

// silence returns how long to wait for a frame, given the keepalive interval granted by the server.
func silence(granted *durationpb.Duration) time.Duration {
	interval := granted.AsDuration()
	if interval <= 0 {
		interval = 45 * time.Second // the contract's default
	}
	return min(max(interval, time.Second), 5*time.Minute) * 5 / 2
}

// disconnection reports whether a failure means only that the server is unreachable or busy.
func disconnection(failure *Error) bool {
	switch failure.Code {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
	default:
		return false
	}
	return failure.Reason == "DRAINING" || failure.Reason == "STORE_BUSY" || failure.OutcomeUnknown
}

// final reports whether a wait failed for a reason that retrying cannot fix.
func final(failure *Error) bool {
	bug := failure.Code == codes.Internal && failure.Reason != ""
	return !failure.Retryable && !bug
}
