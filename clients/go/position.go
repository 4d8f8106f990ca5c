package threadbus

import (
	pb "threadbus.dev/gen/go/threadbus/v1"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const maxSeq = 1<<53 - 1

// position is the position of a follow in one thread. Whatever the server sends, take returns each
// message of the thread once and in order, or an error.
type position struct {
	cursor   *pb.Cursor // from the server; moves back only by a resync
	filtered bool       // with a filter seqs may be missing
	firstSeq int64      // oldest seq kept, as last reported
}

// take moves past a frame and returns its new messages. If the frame violates the contract, it
// returns an error and ignores the frame.
func (p *position) take(frame *pb.WaitMessagesResponse) ([]*Message, error) {
	thread, here := p.cursor.GetThread(), p.cursor.GetAfterSeq()
	if resync := frame.GetResync(); resync != nil { // to any position, in any epoch
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
			continue // already received
		case seq <= last || seq > batch.GetCursor().GetAfterSeq() || p.gap(last, seq):
			return nil, broken("the seq %d after %d", seq, last)
		}
		last = seq
		if _, known := pb.MessageKind_name[int32(message.Kind)]; known { // else a newer kind
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

// gap reports whether messages between the two seqs are missing.
func (p *position) gap(last, next int64) bool {
	return !p.filtered && next > max(last+1, p.firstSeq)
}

// check returns an error if cursor is invalid, or is for another thread or epoch. An empty epoch is
// not compared.
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

// broken returns an error for a violation of the contract.
func broken(format string, what ...any) *Error {
	from := status.Newf(codes.Internal, "the server sent "+format, what...)
	return &Error{Code: from.Code(), Message: from.Message(), status: from}
}

// cursorsAfter returns the cursors to resume from after a frame, if it has any.
func cursorsAfter(frame *pb.WaitMessagesResponse) (ends []*pb.Cursor) {
	if batch := frame.GetMessages(); batch != nil {
		return []*pb.Cursor{batch.Cursor}
	}
	if frame.GetStarted() != nil { // has the cursors as requested
		return nil
	}
	for _, there := range positions(frame) {
		ends = append(ends, there.GetCursor())
	}
	return ends
}

// positions returns the positions that a frame carries.
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
