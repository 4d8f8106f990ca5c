package threadbus

import (
	"cmp"
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "threadbus.dev/gen/go/threadbus/v1"
)

const firstFrame = 20 * time.Second // for a wait to connect and to say `started`

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
// once, in order, across reconnects. It ends when the thread is closed, the session has ended, ctx
// is done (ctx.Err tells) or the client is closed. Or an error comes last: *CursorLost, or *Error
// for what coming again does not cure.
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
		request := &pb.WaitMessagesRequest{Threads: []*pb.Cursor{cursor}, Filter: filter}
		if err := sendable(request); err != nil {
			tell(nil, err)
			return
		}
		for failures := 0; ctx.Err() == nil; failures++ { // in a row
			pause := backoff(failures)
			for frame, err := range c.wait(ctx, request) {
				if failure := ErrorOf(err); failure != nil {
					if final(failure) {
						tell(nil, failure)
						return
					}
					pause = max(pause, failure.RetryDelay)
					break
				}
				if frame.GetStarted() == nil {
					failures, pause = 0, backoff(0)
				}
				if resync := frame.GetResync(); resync != nil && !options.ContinueOnResync {
					tell(nil, &CursorLost{resync})
					return
				}
				after := cursorAfter(frame)
				for _, message := range frame.GetMessages().GetMessages() {
					if _, known := pb.MessageKind_name[int32(message.Kind)]; !known {
						continue // a kind of tomorrow
					}
					if !tell(&Message{message, after.GetEpoch()}, nil) {
						return
					}
				}
				if after != nil { // not before its messages are handed out
					request.Threads[0] = after
				}
				if ending := frame.GetEnding(); ending != nil { // whatever the status after it
					switch ending.Reason {
					case pb.WaitEnding_REASON_THREADS_CLOSED, pb.WaitEnding_REASON_SESSION_ENDED:
						return
					}
					pause = max(pause, ending.RetryDelay.AsDuration())
					break
				}
			}
			sleep(ctx, pause)
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
			if granted := frame.GetStarted().GetKeepaliveInterval().AsDuration(); granted > 0 {
				patience = granted * 5 / 2
			}
			if !yield(frame, err) || err != nil {
				return
			}
			watchdog.Reset(patience)
		}
	}
}

// cursorAfter is where to go on after a frame, which is one of these. Nil if it does not say.
func cursorAfter(frame *pb.WaitMessagesResponse) *pb.Cursor {
	return cmp.Or(
		frame.GetMessages().GetCursor(),
		frame.GetCaughtUp().GetCursor(),
		frame.GetResync().GetPosition().GetCursor(),
		first(frame.GetKeepalive().GetThreads()),
		first(frame.GetEnding().GetThreads()),
	)
}

func first(positions []*pb.ThreadPosition) *pb.Cursor {
	if len(positions) == 0 {
		return nil
	}
	return positions[0].Cursor
}

// final tells whether a wait is refused for a reason that coming again does not cure.
func final(failure *Error) bool {
	return !failure.Retryable && failure.Code != codes.Internal
}
