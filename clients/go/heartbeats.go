package threadbus

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	pb "threadbus.dev/gen/go/threadbus/v1"
)

const (
	usualInterval  = 40 * time.Second // until the server says another
	cursorsInABeat = 1_000
)

// MarkRead tells what was read: the next Join goes on from there. If that fails for now, the next
// heartbeat tells it.
func (c *Client) MarkRead(ctx context.Context, cursor *pb.Cursor) error {
	c.mu.Lock()
	c.unreported[cursor.GetThread()] = proto.CloneOf(cursor)
	c.mu.Unlock()
	_, err := c.heartbeat(ctx)
	return err
}

// heartbeat says that the agent is alive, and what it has read since it last said so.
func (c *Client) heartbeat(ctx context.Context) (*pb.HeartbeatResponse, error) {
	request := &pb.HeartbeatRequest{}
	c.mu.Lock()
	for _, cursor := range c.unreported {
		if len(request.ReadCursors) < cursorsInABeat {
			request.ReadCursors = append(request.ReadCursors, cursor)
		}
	}
	c.mu.Unlock()
	response, err := c.Bus.Heartbeat(ctx, request)
	if err == nil || !ErrorOf(err).Retryable { // what is refused now would be refused for ever
		c.mu.Lock()
		for _, cursor := range request.ReadCursors {
			if c.unreported[cursor.Thread] == cursor {
				delete(c.unreported, cursor.Thread)
			}
		}
		c.mu.Unlock()
	}
	return response, err
}

func (c *Client) startHeartbeats() {
	ctx, cancel := context.WithCancel(c.open)
	ended := make(chan struct{})
	c.takeHeartbeats(func() { cancel(); <-ended })()
	go func() {
		defer close(ended)
		c.keepAlive(ctx)
	}()
}

// takeHeartbeats puts a way to stop the heartbeats in the place of the one before: the result.
func (c *Client) takeHeartbeats(stop func()) (before func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.stopHeartbeats = c.stopHeartbeats, stop
	return before
}

// keepAlive sends a heartbeat now, and then whenever the server wants one.
func (c *Client) keepAlive(ctx context.Context) {
	interval, failures := usualInterval, 0
	for pause := time.Duration(0); sleep(ctx, pause); {
		response, err := c.heartbeat(ctx)
		switch {
		case err == nil:
			if asked := response.HeartbeatInterval.AsDuration(); asked > 0 {
				interval = asked
			}
			pause, failures = interval, 0
		case ErrorOf(err).Retryable:
			pause = backoff(failures)
			failures++
		default: // refused: no hurry
			pause = interval
		}
	}
}
