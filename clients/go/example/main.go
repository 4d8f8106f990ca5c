// A tiny agent: joins a thread, follows it, echoes what is addressed to it, leaves at "stop".
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"threadbus.dev/clients/go"
	pb "threadbus.dev/gen/go/threadbus/v1"
)

type (
	joined struct {
		Thread   string `json:"joined"`
		AfterSeq int64  `json:"after_seq"`
	}
	said struct {
		Seq     int64  `json:"seq"`
		Sender  string `json:"sender"`
		Content string `json:"content"`
	}
	posted struct {
		Seq          int64 `json:"posted"`
		ReplyTo      int64 `json:"reply_to"`
		Deduplicated bool  `json:"deduplicated"`
	}
	failed struct {
		Code    string `json:"code"`
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: example HOST:PORT THREAD NAME")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		failure := threadbus.ErrorOf(err)
		say(os.Stderr, failed{failure.CodeName(), failure.Reason, failure.Message})
		os.Exit(1)
	}
}

func run(address, thread, name string) error {
	ctx := context.Background()
	bus, err := threadbus.Connect(address, "")
	if err != nil {
		return err
	}
	defer bus.Close()
	if err := bus.Register(ctx, name, os.Getenv("THREADBUS_TOKEN")); err != nil {
		return err
	}
	entered, err := bus.Join(ctx, thread, pb.JoinStart_JOIN_START_FIRST)
	if err != nil {
		return err
	}
	say(os.Stdout, joined{thread, entered.Cursor.AfterSeq})
	for message, err := range bus.Follow(ctx, entered.Cursor, threadbus.FollowOptions{}) {
		if err != nil {
			return err
		}
		say(os.Stdout, said{message.Seq, message.Sender, message.Content})
		if slices.Contains(message.Mentions, name) || message.HandoffTo == name {
			// The id tells what is answered: killed here and started again, it still answers once.
			answer, err := bus.Post(ctx, &pb.PostMessageRequest{
				Thread: thread, Content: "echo: " + message.Content,
				ReplyTo: message.Seq, RequestId: fmt.Sprintf("echo-%d", message.Seq),
			})
			if err != nil {
				return err
			}
			say(os.Stdout, posted{answer.Seq, message.Seq, answer.Deduplicated})
		}
		if err := bus.MarkRead(ctx, message.Cursor()); err != nil {
			return err
		}
		if message.Content == "stop" {
			break
		}
	}
	return bus.Goodbye(ctx)
}

func say(to io.Writer, line any) {
	encoder := json.NewEncoder(to)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(line)
}
