// A minimal agent: joins a thread, follows it, echoes messages addressed to it, and exits on
// "stop".
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"

	threadbus "threadbus.dev/clients/go"
	pb "threadbus.dev/gen/go/threadbus/v1"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: example HOST:PORT THREAD NAME")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		failure := threadbus.ErrorOf(err)
		say(os.Stderr, line{
			"code": failure.CodeName(), "reason": failure.Reason, "message": failure.Message,
		})
		os.Exit(1)
	}
}

func run(address, thread, name string) error {
	ctx := context.Background()
	files := threadbus.TLSFiles{
		CAFile:     os.Getenv("THREADBUS_CA_FILE"),
		ClientCert: os.Getenv("THREADBUS_CLIENT_CERT"),
		ClientKey:  os.Getenv("THREADBUS_CLIENT_KEY"),
	}
	bus, err := threadbus.Connect(address, "", files)
	if err != nil {
		return err
	}
	defer bus.Close()
	if err := bus.Register(ctx, name, os.Getenv("THREADBUS_TOKEN")); err != nil {
		return err
	}
	joined, err := bus.Join(ctx, thread, pb.JoinStart_JOIN_START_FIRST)
	if err != nil {
		return err
	}
	say(os.Stdout, line{"joined": thread, "after_seq": joined.Cursor.AfterSeq})
	untilInterrupt, stop := signal.NotifyContext(ctx, os.Interrupt) // after the current message
	defer stop()
	for message, err := range bus.Follow(untilInterrupt, joined.Cursor, threadbus.FollowOptions{}) {
		if err != nil {
			return err
		}
		say(os.Stdout, line{
			"seq": message.Seq, "sender": message.Sender, "content": message.Content,
		})
		if slices.Contains(message.Mentions, name) || message.HandoffTo == name {
			// The id is derived from the message: if the agent is killed here and restarted, it still
			// replies only once.
			posted, err := bus.Post(ctx, &pb.PostMessageRequest{
				Thread: thread, Content: "echo: " + message.Content,
				ReplyTo: message.Seq, RequestId: fmt.Sprintf("echo-%d", message.Seq),
			})
			if err != nil {
				return err
			}
			say(os.Stdout, line{
				"posted": posted.Seq, "reply_to": message.Seq, "deduplicated": posted.Deduplicated,
			})
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

type line map[string]any

func say(to io.Writer, what line) {
	encoder := json.NewEncoder(to)
	encoder.SetEscapeHTML(false) // for people to read
	_ = encoder.Encode(what)
}
