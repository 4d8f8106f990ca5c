package threadbus

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
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
	Epoch  string
	hidden int64 // see Cursor.HiddenSeq
}

// Cursor returns the position after the message, for MarkRead or a later Follow.
func (m *Message) Cursor() *pb.Cursor {
	at := &pb.Cursor{Thread: m.Thread, AfterSeq: m.Seq, Epoch: m.Epoch}
	if m.hidden <= m.Seq { // what the filter hid before it does not count as read
		at.HiddenSeq = m.hidden
	}
	return at
}

// Truncated reports whether Content was cut off, see FollowOptions.MaxContentBytes. Bus.GetMessage
// returns the whole.
func (m *Message) Truncated() bool { return int64(len(m.Content)) < m.ContentSize }

// FollowOptions are the options of Follow and Inbox. The zero value suits most agents.
type FollowOptions struct {
	// Which messages to deliver. Nil = all but the agent's own; of these, Inbox delivers only those
	// that are addressed to the agent.
	Filter *pb.MessageFilter
	// When messages are not kept any more, or a cursor is lost in another way, continue at the server's
	// position instead of ending with *CursorLost.
	ContinueOnResync bool
	// Leave out the bytes of attachments.
	OmitAttachmentData bool
	// Cut off longer texts, at most 64 bytes earlier; see Message.Truncated. 0 = no limit.
	MaxContentBytes int64
}

// Follow yields the messages after cursor, then new ones as they are posted: each once and in order,
// across reconnects, whatever the server sends. Notices are yielded only to the agent that they are
// for. It ends when the thread is closed, the session has ended, ctx is done (see ctx.Err) or the
// client is closed. Or it ends with an error: *CursorLost, or *Error if retrying cannot help, or has
// not helped for a minute. Disconnections are retried without limit once the server has responded to
// a call of the client.
func (c *Client) Follow(
	ctx context.Context, cursor *pb.Cursor, options FollowOptions,
) iter.Seq2[*Message, error] {
	if options.Filter == nil {
		options.Filter = &pb.MessageFilter{ExcludeOwn: true}
	}
	request := &pb.WaitMessagesRequest{Threads: []*pb.Cursor{cursor}}
	return c.follow(ctx, request, options, new(bool))
}

// Inbox yields the messages that are addressed to the agent, in all threads in which it takes part,
// then new ones as they are posted, also in threads that it comes to take part in, as by a mention.
// Each thread starts at the agent's read position; see MarkRead. The messages of a thread come in
// order. It goes on when threads are closed, left or deleted; otherwise it ends as Follow.
func (c *Client) Inbox(ctx context.Context, options FollowOptions) iter.Seq2[*Message, error] {
	if options.Filter == nil {
		options.Filter = &pb.MessageFilter{ExcludeOwn: true, AddressedToMe: true}
	}
	return c.follow(ctx, &pb.WaitMessagesRequest{AllMyThreads: true}, options, new(bool))
}

// follow yields the messages of a wait on the threads of request. It sets closed if it ends because
// they are closed.
func (c *Client) follow(
	ctx context.Context, request *pb.WaitMessagesRequest, options FollowOptions, closed *bool,
) iter.Seq2[*Message, error] {
	request.Filter, request.OmitAttachmentData = options.Filter, options.OmitAttachmentData
	request.MaxContentBytes = options.MaxContentBytes
	start := request.Threads
	return func(yield func(*Message, error) bool) {
		ctx, cancel := during(c.session, ctx)
		defer cancel()
		tell := func(message *Message, err error) bool {
			return ctx.Err() == nil && yield(message, err)
		}
		request := proto.CloneOf(request)
		if err := sendable(request); err != nil {
			tell(nil, err)
			return
		}
		at := newPositions(start, request)
		var failing time.Time                             // since when; zero = not failing
		for failures := 0; ctx.Err() == nil; failures++ { // without progress
			delay := time.Duration(0) // requested by the server
			opened, caughtUp := time.Now(), false
			request.Threads = at.cursors()
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
				taken, err := at.take(frame)
				if taken.lost && err == nil && !options.ContinueOnResync {
					err = &CursorLost{frame.GetResync()}
				}
				if err != nil {
					tell(nil, err)
					return
				}
				for _, message := range taken.fresh {
					if c.concerns(message) && !tell(message, nil) {
						return
					}
				}
				progress := taken.moved || !caughtUp && frame.GetCaughtUp() != nil
				caughtUp = caughtUp || frame.GetCaughtUp() != nil
				if taken.moved {
					failures = 0
				}
				if progress {
					failing = time.Time{}
				}
				if ending := frame.GetEnding(); ending != nil { // whatever status follows
					switch ending.Reason {
					case pb.WaitEnding_REASON_THREADS_CLOSED, pb.WaitEnding_REASON_SESSION_ENDED:
						*closed = ending.Reason == pb.WaitEnding_REASON_THREADS_CLOSED
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

// concerns reports whether a message is for this agent to see: it is of a known kind, and no notice
// for another agent, or with an unknown reason.
func (c *Client) concerns(message *Message) bool {
	if message.Kind == pb.MessageKind_MESSAGE_KIND_NOTICE {
		_, known := pb.Notice_Reason_name[int32(message.Notice.GetReason())]
		return known && slices.Contains(message.Mentions, c.name())
	}
	_, known := pb.MessageKind_name[int32(message.Kind)]
	return known
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
			case slices.ContainsFunc(frame.GetMessages().GetMessages(), isNotice):
				err = c.learnName(ctx, conn)
			}
			if !yield(frame, err) || err != nil {
				return
			}
			watchdog.Reset(patience)
		}
	}
}

func isNotice(message *pb.Message) bool {
	return message.Kind == pb.MessageKind_MESSAGE_KIND_NOTICE
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
