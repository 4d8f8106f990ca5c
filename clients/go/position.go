package threadbus

import (
	"cmp"
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	pb "threadbus.dev/gen/go/threadbus/v1"
)

const maxSeq = 1<<53 - 1

// maxCursors is how many cursors a wait may have.
const maxCursors = 1000

// positions are the positions of a follow in its threads. Whatever the server sends, take returns
// each message of a thread once and in order, or an error.
type positions struct {
	all      bool // of all threads of the agent, which the server may add
	filtered bool // with a filter seqs may be missing
	threads  map[string]*position
	moves    int64
}

// position is the position in one thread.
type position struct {
	cursor   *pb.Cursor // from the server; moves back only by a resync
	filtered bool
	unsent   bool  // it was left out of cursors, so the server has started elsewhere
	moved    int64 // of positions.moves, when it moved last
}

// taken is what a frame brings.
type taken struct {
	fresh []*Message // new ones
	moved bool       // whether a cursor moved forward, or a thread was added or removed
	lost  bool       // whether messages may be missing, by a resync
}

func newPositions(start []*pb.Cursor, request *pb.WaitMessagesRequest) *positions {
	p := &positions{
		all: request.AllMyThreads, filtered: proto.Size(request.Filter) > 0,
		threads: map[string]*position{},
	}
	for _, cursor := range start {
		p.threads[cursor.GetThread()] = &position{cursor: cursor, filtered: p.filtered}
	}
	return p
}

// cursors returns the cursors to resume from, those that moved last if there are too many. The server
// starts in other threads at the agent's read position.
func (p *positions) cursors() (cursors []*pb.Cursor) {
	last := func(a, b *position) int { return cmp.Compare(b.moved, a.moved) }
	for index, at := range slices.SortedFunc(maps.Values(p.threads), last) {
		at.unsent = index >= maxCursors
		if !at.unsent {
			cursors = append(cursors, at.cursor)
		}
	}
	return cursors
}

// take moves past a frame. If the frame violates the contract, it returns an error.
func (p *positions) take(frame *pb.WaitMessagesResponse) (taken taken, err error) {
	switch frame := frame.Frame.(type) {
	case *pb.WaitMessagesResponse_Messages:
		taken.fresh, taken.moved, err = p.batch(frame.Messages)
	case *pb.WaitMessagesResponse_CaughtUp:
		if p.all && frame.CaughtUp.GetCursor() == nil { // with all threads
			return taken, nil
		}
		taken.moved, err = p.move(frame.CaughtUp)
	case *pb.WaitMessagesResponse_Keepalive:
		taken.moved, err = p.move(frame.Keepalive.GetThreads()...)
	case *pb.WaitMessagesResponse_Ending:
		taken.moved, err = p.move(frame.Ending.GetThreads()...)
	case *pb.WaitMessagesResponse_Resync:
		if frame.Resync.GetReason() == pb.WaitResync_REASON_COMPACTED {
			taken.moved, err = p.skip(frame.Resync)
			taken.lost = taken.moved
		} else { // to any position, in any epoch
			taken.lost, err = true, p.put(frame.Resync.GetPosition(), p.all)
		}
	case *pb.WaitMessagesResponse_ThreadAdded:
		taken.moved = p.threads[frame.ThreadAdded.GetCursor().GetThread()] == nil
		err = p.put(frame.ThreadAdded, true)
	case *pb.WaitMessagesResponse_ThreadRemoved:
		taken.moved = p.threads[frame.ThreadRemoved.GetThread()] != nil
		delete(p.threads, frame.ThreadRemoved.GetThread())
	}
	return taken, err
}

// batch moves past messages.
func (p *positions) batch(batch *pb.MessageBatch) (fresh []*Message, moved bool, err error) {
	end := batch.GetCursor()
	at, err := p.of(end)
	if err != nil {
		return nil, false, err
	}
	here := at.cursor.GetAfterSeq()
	last := here
	for _, message := range batch.GetMessages() {
		seq := message.Seq
		switch {
		case message.Thread != end.Thread:
			return nil, false, broken("a message of %q, not of %q", message.Thread, end.Thread)
		case seq >= 1 && seq <= here:
			continue // already received
		case seq <= last || seq > end.AfterSeq || at.gap(last, seq):
			return nil, false, broken("the seq %d after %d", seq, last)
		}
		last = seq
		fresh = append(fresh, &Message{message, end.Epoch, end.HiddenSeq})
	}
	if at.gap(last, end.AfterSeq+1) {
		return nil, false, broken("the cursor %d after %d", end.AfterSeq, last)
	}
	return fresh, p.advance(at, end), nil
}

// move moves to positions further on.
func (p *positions) move(positions ...*pb.ThreadPosition) (moved bool, err error) {
	for _, there := range positions {
		end := there.GetCursor()
		at, err := p.of(end)
		if err != nil {
			return false, err
		}
		if at.gap(at.cursor.GetAfterSeq(), end.AfterSeq+1) {
			return false, broken("the cursor %d after %d", end.AfterSeq, at.cursor.GetAfterSeq())
		}
		moved = p.advance(at, end) || moved
	}
	return moved, nil
}

// put starts at a position, in a thread that is new to the follow if it may be.
func (p *positions) put(there *pb.ThreadPosition, mayBeNew bool) error {
	thread := there.GetCursor().GetThread()
	if p.threads[thread] == nil && !mayBeNew {
		return broken("a cursor of %q, which is not followed", thread)
	}
	if err := check(there.GetCursor(), ""); err != nil {
		return err
	}
	p.moves++
	p.threads[thread] = &position{cursor: there.GetCursor(), filtered: p.filtered, moved: p.moves}
	return nil
}

// skip moves past entries that are not kept any more. It reports whether the position was before them.
func (p *positions) skip(resync *pb.WaitResync) (moved bool, err error) {
	there, from := resync.GetPosition(), resync.GetRequested()
	end := there.GetCursor()
	at, err := p.of(end)
	if err != nil {
		return false, err
	}
	here := at.cursor.GetAfterSeq()
	last := from.GetAfterSeq() // that the server has passed: beyond here, if the filter hides some
	ours := at.unsent || last == here || last > here && at.filtered
	same := from.GetThread() == end.GetThread() &&
		(from.GetEpoch() == "" || from.GetEpoch() == end.GetEpoch())
	if check(from, "") != nil || !ours || !same ||
		last >= end.GetAfterSeq() || end.GetAfterSeq() != there.GetFirstSeq()-1 {
		return false, broken("a resync from %d to %d, not from %d to before %d", last,
			end.GetAfterSeq(), here, there.GetFirstSeq())
	}
	if end.GetAfterSeq() <= here {
		return false, nil
	}
	return true, p.put(there, p.all)
}

// of returns the position in the thread of cursor, which it checks. In a thread that is new to the
// follow, it is not known where the server started.
func (p *positions) of(cursor *pb.Cursor) (*position, error) {
	at := p.threads[cursor.GetThread()]
	if at == nil && !p.all {
		return nil, broken("a cursor of %q, which is not followed", cursor.GetThread())
	}
	if err := check(cursor, at.epoch()); err != nil {
		return nil, err
	}
	if at == nil {
		start := &pb.Cursor{Thread: cursor.Thread, Epoch: cursor.Epoch}
		at = &position{cursor: start, filtered: true}
		p.threads[cursor.Thread] = at
	}
	return at, nil
}

// advance moves a position to cursor, unless it is further on. It reports whether it moved.
func (p *positions) advance(at *position, cursor *pb.Cursor) bool {
	before := at.cursor.GetAfterSeq()
	if cursor.AfterSeq >= before {
		p.moves++
		at.cursor, at.moved = cursor, p.moves
	}
	return cursor.AfterSeq > before
}

func (p *position) epoch() string {
	if p == nil {
		return ""
	}
	return p.cursor.GetEpoch()
}

// gap reports whether messages between the two seqs are missing.
func (p *position) gap(last, next int64) bool {
	return !p.filtered && next > last+1
}

// check returns an error if cursor is invalid, or of another epoch. An empty epoch is not compared.
func check(cursor *pb.Cursor, epoch string) error {
	switch at, hidden := cursor.GetAfterSeq(), cursor.GetHiddenSeq(); {
	case at < 0 || at > maxSeq || hidden < 0 || hidden > at:
		return broken("a cursor at %d that hides %d", at, hidden)
	case epoch != "" && cursor.GetEpoch() != epoch:
		return broken("the epoch %q of %q, not %q", cursor.GetEpoch(), cursor.GetThread(), epoch)
	}
	return nil
}

// broken returns an error for a violation of the contract.
func broken(format string, what ...any) *Error {
	from := status.Newf(codes.Internal, "the server sent "+format, what...)
	return &Error{Code: from.Code(), Message: from.Message(), status: from}
}
