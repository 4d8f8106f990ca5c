package threadbus

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	pb "threadbus.dev/gen/go/threadbus/v1"
)

const (
	firstFrame = 20 * time.Second // for a wait to connect and to say `started`
	lastStatus = time.Second      // for the status after `ending`
)

var errSilent = errors.New("no sign of life from the server")

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
	// Which messages to deliver. Nil = all. Its ExcludeOwn is overruled by Own.
	Filter *pb.MessageFilter
	// The agent's own messages, too.
	Own bool
	// A wish for the time between signs of life: after two and a half of it without any, Follow
	// connects anew. 0 = the server's own, 45 s.
	Keepalive time.Duration
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
	filter := &pb.MessageFilter{}
	if options.Filter != nil {
		filter = proto.CloneOf(options.Filter)
	}
	filter.ExcludeOwn = !options.Own
	return func(yield func(*Message, error) bool) {
		request := &pb.WaitMessagesRequest{Threads: []*pb.Cursor{cursor}, Filter: filter}
		if options.Keepalive > 0 {
			request.KeepaliveInterval = durationpb.New(options.Keepalive)
		}
		if err := sendable(request); err != nil {
			yield(nil, err)
			return
		}
		ctx, stop := c.whileOpen(ctx)
		defer stop()
		f := &follower{client: c, request: request, resync: options.ContinueOnResync, yield: yield}
		for ctx.Err() == nil {
			pause, again := f.wait(ctx)
			if !again || !sleep(ctx, max(backoff(f.failures), pause)) {
				return
			}
			f.failures++
		}
	}
}

// follower is one run of Follow.
type follower struct {
	client   *Client
	request  *pb.WaitMessagesRequest // with the cursor after what was handed out
	resync   bool
	yield    func(*Message, error) bool
	failures int // in a row
}

// wait is one WaitMessages, until it ends: how long to pause before the next, and whether to come
// again at all.
func (f *follower) wait(ctx context.Context) (pause time.Duration, again bool) {
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(firstFrame, func() { cancel(errSilent) })
	defer watchdog.Stop()
	withToken, conn := f.client.current(waiting)
	stream, err := pb.NewBusServiceClient(conn).WaitMessages(withToken, f.request,
		grpc.WaitForReady(true)) // unary calls tell why there is no connection
	patience := firstFrame
	var ending *pb.WaitEnding
	for err == nil {
		watchdog.Reset(patience)
		var response *pb.WaitMessagesResponse
		response, err = stream.Recv()
		watchdog.Stop() // the time that the caller takes is its own
		if err != nil {
			break
		}
		if started := response.GetStarted(); started != nil {
			patience = started.KeepaliveInterval.AsDuration() * 5 / 2
			continue
		}
		f.failures = 0
		if !f.handOut(response) {
			return 0, false
		}
		if ending = response.GetEnding(); ending != nil {
			patience = lastStatus
		}
	}
	switch {
	case ctx.Err() != nil:
		return 0, false
	case ending != nil: // whatever the status says, it is no failure
		return ending.RetryDelay.AsDuration(), comeAgain(ending.Reason)
	case context.Cause(waiting) == errSilent:
		f.client.renew(conn)
		return 0, true
	case errors.Is(err, io.EOF):
		return 0, true
	}
	failure := ErrorOf(err)
	if !failure.Retryable && failure.Code != codes.Internal {
		f.yield(nil, failure)
		return 0, false
	}
	return failure.RetryDelay, true
}

// handOut gives the messages of a frame to the caller, then keeps its cursor. A frame that is not
// known has neither. False = the follow is over.
func (f *follower) handOut(response *pb.WaitMessagesResponse) bool {
	var cursor *pb.Cursor
	switch frame := response.Frame.(type) {
	case *pb.WaitMessagesResponse_Messages:
		cursor = frame.Messages.Cursor
		for _, message := range frame.Messages.Messages {
			if _, known := pb.MessageKind_name[int32(message.Kind)]; !known {
				continue // a kind of tomorrow
			}
			if !f.yield(&Message{Message: message, Epoch: cursor.GetEpoch()}, nil) {
				return false
			}
		}
	case *pb.WaitMessagesResponse_CaughtUp:
		cursor = frame.CaughtUp.Cursor
	case *pb.WaitMessagesResponse_Keepalive:
		cursor = first(frame.Keepalive.Threads)
	case *pb.WaitMessagesResponse_Ending:
		cursor = first(frame.Ending.Threads)
	case *pb.WaitMessagesResponse_Resync:
		if !f.resync {
			f.yield(nil, &CursorLost{frame.Resync})
			return false
		}
		cursor = frame.Resync.Position.GetCursor()
	}
	if cursor != nil {
		f.request.Threads[0] = cursor
	}
	return true
}

func first(threads []*pb.ThreadPosition) *pb.Cursor {
	if len(threads) == 0 {
		return nil
	}
	return threads[0].Cursor
}

func comeAgain(reason pb.WaitEnding_Reason) bool {
	return reason != pb.WaitEnding_REASON_THREADS_CLOSED &&
		reason != pb.WaitEnding_REASON_SESSION_ENDED
}
