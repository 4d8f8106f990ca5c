package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// operation is a call of a client, or a fault, as scripts/robustness.d/history.py writes it.
type operation struct {
	Kind      string   `json:"kind"`
	Outcome   string   `json:"outcome"`
	Thread    string   `json:"thread"`
	Client    int      `json:"client"`
	Server    int      `json:"server"`
	Call      int64    `json:"call"`
	Returned  int64    `json:"returned"`
	Content   string   `json:"content"`
	RequestID string   `json:"request_id"`
	Expected  *int     `json:"expected"`
	Seq       int      `json:"seq"`
	Head      int      `json:"head"`
	Repeated  bool     `json:"repeated"`
	Contents  []string `json:"contents"`
}

// load returns the calls of each thread, and the faults.
func load(path string) (threads map[string][]*operation, faults []*operation, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	threads = map[string][]*operation{}
	for decoder := json.NewDecoder(bufio.NewReader(file)); decoder.More(); {
		read := &operation{Outcome: "ok"}
		if err := decoder.Decode(read); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		if read.Kind == "fault" {
			faults = append(faults, read)
		} else {
			threads[read.Thread] = append(threads[read.Thread], read)
		}
	}
	return threads, faults, nil
}

// settle returns the calls of one thread that the model judges. It decides what became of posts
// whose answer was lost by the log in which the recording ends, read when nothing was under way:
//
//   - If the log does not have the content, the post has not happened. It is left out. Had any call
//     seen it, that call could not be explained, and rightly so.
//   - If the log has it, and an answered attempt with the same request_id says that it was the one
//     that appended, the lost ones did nothing.
//   - Else one of the lost attempts appended it, some time after the first of them was sent. One
//     operation stands for them all: it begins with the first, never ends, and appends at the seq
//     that the log says.
//
// This decides nothing that the search could decide otherwise, but spares it to try each lost post
// at each later moment, for which the time grows exponentially with their number.
//
// All other attempts of a post are operations of their own: each has its own answer to explain, and
// may take effect only while it was under way. Made into one, from the first call to the last
// return, they could hide an attempt that took effect although it was refused. A refused call did
// nothing, and is left out: an effect that it had all the same is explained by no operation.
func settle(calls []*operation) ([]*operation, error) {
	var end int64
	var log []string
	appended := map[string]bool{}
	for _, call := range calls {
		end = max(end, call.Returned)
		switch {
		case call.Kind == "log":
			log = call.Contents
		case call.Kind == "post" && call.Outcome == "ok" && !call.Repeated:
			appended[call.Content] = true
		}
	}
	if log == nil {
		return nil, fmt.Errorf("the history does not end with its log")
	}
	var judged []*operation
	lost := map[string]*operation{}
	for _, call := range calls {
		switch call.Outcome {
		case "ok", "conflict", "missing":
			judged = append(judged, call)
		case "unknown":
			at := slices.Index(log, call.Content)
			if call.Kind != "post" || at < 0 || appended[call.Content] {
				continue
			}
			if first := lost[call.Content]; first != nil {
				first.Call = min(first.Call, call.Call)
				continue
			}
			post := *call
			post.Seq, post.Returned = at+1, end+1
			lost[call.Content] = &post
			judged = append(judged, &post)
		}
	}
	return judged, nil
}
