package threadbus

import (
	pb "threadbus.dev/gen/go/threadbus/v1"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const maxSeq = 1<<53 - 1

// position is how far a follow of one thread is. Whatever a server sends, take gives each message
// of the thread once and in order, or an error.
type position struct {
	cursor   *pb.Cursor // the server's, but never behind an earlier one, other than by a resync
	filtered bool       // so that seqs may be left out
	firstSeq int64      // of what is kept, as far as the server told
}

// take moves past a frame, and gives its messages that are new. An error is one of the contract's:
// nothing of the frame is used.
func (p *position) take(frame *pb.WaitMessagesResponse) ([]*Message, error) {
	thread, here := p.cursor.GetThread(), p.cursor.GetAfterSeq()
	if resync := frame.GetResync(); resync != nil { // anywhere in the thread, in any history
		there := resync.GetPosition()
		if err := check(there.GetCursor(), thread, ""); err != nil {
			return nil, err
		}
		p.cursor, p.firstSeq = there.GetCursor(), there.GetFirstSeq()
		return nil, nil
	}
	for _, there := range positions(frame) {
		p.firstSeq = max(p.firstSeq, there.GetFirstSeq())
	}
	ends := cursorsAfter(frame)
	for _, end := range ends {
		if err := check(end, thread, p.cursor.GetEpoch()); err != nil {
			return nil, err
		}
	}
	var fresh []*Message
	batch, last := frame.GetMessages(), here
	for _, message := range batch.GetMessages() {
		seq := message.Seq
		switch {
		case message.Thread != thread:
			return nil, broken("a message of %q, not of %q", message.Thread, thread)
		case seq >= 1 && seq <= here:
			continue // it came before
		case seq <= last || seq > batch.GetCursor().GetAfterSeq() || p.gap(last, seq):
			return nil, broken("the seq %d after %d", seq, last)
		}
		last = seq
		if _, known := pb.MessageKind_name[int32(message.Kind)]; known { // else one of tomorrow
			fresh = append(fresh, &Message{message, batch.GetCursor().GetEpoch()})
		}
	}
	for _, end := range ends {
		if p.gap(last, end.AfterSeq+1) {
			return nil, broken("the cursor %d after %d", end.AfterSeq, last)
		}
		last = max(last, end.AfterSeq)
	}
	for _, end := range ends {
		p.cursor = &pb.Cursor{Thread: thread, AfterSeq: last, Epoch: end.Epoch}
	}
	return fresh, nil
}

// gap tells whether there must be messages between the two seqs.
func (p *position) gap(last, next int64) bool {
	return !p.filtered && next > max(last+1, p.firstSeq)
}

// check refuses a cursor that is none of the thread's; of another epoch, too, unless that is empty.
func check(cursor *pb.Cursor, thread, epoch string) error {
	switch at := cursor.GetAfterSeq(); {
	case cursor.GetThread() != thread:
		return broken("a cursor of %q, not of %q", cursor.GetThread(), thread)
	case at < 0 || at > maxSeq:
		return broken("a cursor at %d", at)
	case epoch != "" && cursor.GetEpoch() != epoch:
		return broken("the epoch %q of %q, not %q", cursor.GetEpoch(), thread, epoch)
	}
	return nil
}

// broken is an error for what the contract rules out.
func broken(format string, what ...any) *Error {
	from := status.Newf(codes.Internal, "the server sent "+format, what...)
	return &Error{Code: from.Code(), Message: from.Message(), status: from}
}

// cursorsAfter are where to go on after a frame, which is one of these. None if it does not say.
func cursorsAfter(frame *pb.WaitMessagesResponse) (ends []*pb.Cursor) {
	if batch := frame.GetMessages(); batch != nil {
		return []*pb.Cursor{batch.Cursor}
	}
	if frame.GetStarted() != nil { // names those that were asked for
		return nil
	}
	for _, there := range positions(frame) {
		ends = append(ends, there.GetCursor())
	}
	return ends
}

// positions are those that a frame tells of.
func positions(frame *pb.WaitMessagesResponse) []*pb.ThreadPosition {
	switch frame := frame.Frame.(type) {
	case *pb.WaitMessagesResponse_Started:
		return frame.Started.GetThreads()
	case *pb.WaitMessagesResponse_CaughtUp:
		return []*pb.ThreadPosition{frame.CaughtUp}
	case *pb.WaitMessagesResponse_Keepalive:
		return frame.Keepalive.GetThreads()
	case *pb.WaitMessagesResponse_Ending:
		return frame.Ending.GetThreads()
	}
	return nil
}
