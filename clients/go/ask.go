package threadbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	pb "threadbus.dev/gen/go/threadbus/v1"
)

// Unanswered reports that a reply may not come. After CLOSED and WITHDRAWN none can; otherwise the
// request is still open, and a later reply answers it.
type Unanswered struct {
	// AGENT_IDLE, AGENT_LAPSED, AGENT_OFFLINE, AGENT_LEFT or OVERDUE: see Notice.Reason. CLOSED: the
	// thread was closed, or does not keep the question any more. WITHDRAWN: the request was.
	// SESSION_ENDED: that of the agent that asked.
	Reason string
	Agent  string // the agent asked; of several, the last one that was given up
	Thread string
	Seq    int64 // of the question
}

func (e *Unanswered) Error() string {
	return fmt.Sprintf("no reply to message %d of %s: %s %s", e.Seq, e.Thread, e.Agent, e.Reason)
}

// GRPCStatus returns the status that ErrorOf converts.
func (e *Unanswered) GRPCStatus() *status.Status {
	return status.New(codes.FailedPrecondition, e.Error())
}

// Ask posts a question to the agents in ExpectReply, or else to those in Mentions and HandoffTo. It
// returns the first reply to it, or to an edit of it, and *Unanswered after a notice about each of the
// agents, or when no request is open any more. Until then it waits, across reconnects. If ctx is done
// first, the question stays open; Bus.WithdrawRequest withdraws it. Other errors are those of Post and
// Follow. Ask marks nothing as read: Follow yields the reply, too.
func (c *Client) Ask(ctx context.Context, question *pb.PostMessageRequest) (*Message, error) {
	if question.ExpectReply == nil {
		question = proto.CloneOf(question)
		question.ExpectReply = &pb.ExpectReply{}
	}
	posted, err := c.Post(ctx, question)
	if err != nil {
		return nil, err
	}
	asked := question.ExpectReply.Agents
	if len(asked) == 0 {
		asked = slices.Clone(question.Mentions)
		if question.HandoffTo != "" {
			asked = append(asked, question.HandoffTo)
		}
	}
	hopes := map[string]bool{} // the agents without a notice
	for _, agent := range asked {
		hopes[agent] = true
	}
	questions := map[int64]bool{posted.Seq: true} // and its edits
	start := &pb.Cursor{Thread: question.Thread, AfterSeq: posted.Seq, Epoch: posted.Epoch}
	wait := &pb.WaitMessagesRequest{Threads: []*pb.Cursor{start}}
	closed := false
	for message, err := range c.follow(ctx, wait, FollowOptions{}, &closed) {
		var lost *CursorLost
		if errors.As(err, &lost) && lost.compacted() { // the question is gone, so its requests ended
			closed = true
			break
		}
		if err != nil {
			return nil, err
		}
		answers := questions[message.ReplyTo] && message.Wakes != pb.Wake_WAKE_NOBODY
		switch notice := message.Notice; {
		case message.EditOf == posted.Seq:
			questions[message.Seq] = true
		case answers && slices.Contains(asked, message.Sender):
			return message, nil
		case notice.GetRequestSeq() == posted.Seq:
			delete(hopes, notice.Agent)
			if len(hopes) > 0 {
				continue
			}
			// A reply may have come since.
			if reply, err := c.settled(ctx, start); reply != nil || err != nil {
				return reply, err
			}
			reason := strings.TrimPrefix(notice.Reason.String(), "REASON_")
			return nil, &Unanswered{reason, notice.Agent, question.Thread, posted.Seq}
		case message.Kind == pb.MessageKind_MESSAGE_KIND_THREAD: // it may have been closed
			if reply, err := c.settled(ctx, start); reply != nil || err != nil {
				return reply, err
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, ErrorOf(status.FromContextError(err).Err())
	}
	reason := "SESSION_ENDED"
	if closed {
		if reply, err := c.settled(ctx, start); reply != nil || err != nil {
			return reply, err
		}
		reason = "CLOSED"
	}
	return nil, &Unanswered{reason, asked[len(asked)-1], question.Thread, posted.Seq}
}

// settled looks at the requests of the question at the given position. It returns a reply, or
// *Unanswered if no request is open any more, or nil.
func (c *Client) settled(ctx context.Context, question *pb.Cursor) (*Message, error) {
	list := &pb.ListRequestsRequest{Thread: question.Thread}
	var ended *pb.Request
	open := false
	for newer := true; newer; { // the list begins with the newest
		page, err := c.Bus.ListRequests(ctx, list)
		if err != nil {
			return nil, err
		}
		list.PageToken = page.NextPageToken
		newer = list.PageToken != ""
		for _, request := range page.Requests {
			newer = newer && request.Seq >= question.AfterSeq
			if request.Seq != question.AfterSeq || request.Epoch != question.Epoch {
				continue
			}
			switch request.State {
			case pb.RequestState_REQUEST_STATE_ANSWERED:
				reply := &pb.GetMessageRequest{Thread: request.Thread, Seq: request.ReplySeq}
				found, err := c.Bus.GetMessage(ctx, reply)
				if err != nil {
					return nil, err
				}
				return &Message{Message: found.Message, Epoch: request.Epoch}, nil
			case pb.RequestState_REQUEST_STATE_OPEN:
				open = true
			default:
				ended = request
			}
		}
	}
	if open || ended == nil {
		return nil, nil
	}
	reason := "CLOSED" // also for a state that this client does not know
	if ended.State == pb.RequestState_REQUEST_STATE_WITHDRAWN {
		reason = "WITHDRAWN"
	}
	return nil, &Unanswered{reason, ended.Agent, ended.Thread, ended.Seq}
}
