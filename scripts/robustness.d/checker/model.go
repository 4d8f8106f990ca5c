package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// entry is the newest entry of a thread's log, and the state of the model; nil is an empty log. Logs
// are immutable and share what they have in common.
type entry struct {
	before  *entry
	seq     int
	content string
}

func (e *entry) head() int {
	if e == nil {
		return 0
	}
	return e.seq
}

// at returns the content of a message, and whether there is one.
func (e *entry) at(seq int) (string, bool) {
	for ; e != nil && e.seq >= seq; e = e.before {
		if e.seq == seq {
			return e.content, true
		}
	}
	return "", false
}

func (e *entry) contains(content string) bool {
	for ; e != nil; e = e.before {
		if e.content == content {
			return true
		}
	}
	return false
}

func (e *entry) equals(contents []string) bool {
	for ; e != nil && e.seq == len(contents) && e.content == contents[e.seq-1]; e = e.before {
		contents = contents[:e.seq-1]
	}
	return e == nil && len(contents) == 0
}

func same(a, b *entry) bool {
	for a != b && a.head() == b.head() && a != nil && a.content == b.content {
		a, b = a.before, b.before
	}
	return a == b
}

// model is one thread: a log, to which posts append, and which reads see as it is.
var model = porcupine.Model{
	Init:  func() any { return (*entry)(nil) },
	Equal: func(a, b any) bool { return same(a.(*entry), b.(*entry)) },
	Step: func(state, input, _ any) (bool, any) {
		return step(state.(*entry), input.(*operation))
	},
	DescribeOperation: func(input, _ any) string { return describe(input.(*operation)) },
	DescribeState: func(state any) string {
		if log := state.(*entry); log != nil {
			return fmt.Sprintf("%d: %s", log.seq, log.content)
		}
		return "empty"
	},
}

// step returns whether a call can have had its answer while the thread had this log, and the log
// after it.
func step(log *entry, call *operation) (bool, *entry) {
	head := log.head()
	switch call.Kind {
	case "post":
		return post(log, call)
	case "head":
		return call.Head == head, log
	case "newest":
		content, _ := log.at(head)
		return call.Head == head && call.Seq == head && call.Content == content, log
	case "message":
		content, found := log.at(call.Seq)
		return found == (call.Outcome == "ok") && content == call.Content, log
	case "log":
		return log.equals(call.Contents), log
	}
	panic("unknown kind of call: " + call.Kind)
}

// post is step for a post. Contents serve as request_ids: each post has one of its own, with or
// without a request_id, so that none may be in the log twice.
func post(log *entry, call *operation) (bool, *entry) {
	head := log.head()
	held := call.Expected == nil || *call.Expected == head
	switch {
	case call.Outcome == "conflict":
		return !held && call.Head == head && !log.contains(call.Content), log
	case call.Repeated:
		first, _ := log.at(call.Seq)
		return call.RequestID != "" && first == call.Content && call.Head == head, log
	case !held || call.Seq != head+1 || log.contains(call.Content):
		return false, log
	case call.Outcome == "ok" && call.Head != call.Seq:
		return false, log
	}
	return true, &entry{log, head + 1, call.Content}
}

func describe(call *operation) string {
	asked, told := call.Kind, call.Outcome
	switch call.Kind {
	case "post":
		asked = "post " + call.Content
		if call.RequestID != "" {
			asked += " by id"
		}
		if call.Expected != nil {
			asked += fmt.Sprintf(" if head is %d", *call.Expected)
		}
		switch {
		case call.Outcome == "conflict":
			told = fmt.Sprintf("conflict, head %d", call.Head)
		case call.Repeated:
			told = fmt.Sprintf("repeats %d, head %d", call.Seq, call.Head)
		default:
			told += fmt.Sprintf(" %d", call.Seq)
		}
	case "head":
		told = fmt.Sprint(call.Head)
	case "newest":
		told = fmt.Sprintf("%d: %s, head %d", call.Seq, call.Content, call.Head)
	case "message":
		asked = fmt.Sprintf("message %d", call.Seq)
		if call.Outcome == "ok" {
			told = call.Content
		}
	case "log":
		told = fmt.Sprintf("%d messages", len(call.Contents))
	}
	return fmt.Sprintf("%s at %d → %s", asked, call.Server, told)
}
