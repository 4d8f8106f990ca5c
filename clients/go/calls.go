package threadbus

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	pb "threadbus.dev/gen/go/threadbus/v1"
)

const (
	oneAttempt  = 10 * time.Second // for one try of a call
	allAttempts = 30 * time.Second // for a call whose context has no deadline
)

// Invoke sends a call once. It and NewStream make Client a grpc.ClientConnInterface.
func (c *Client) Invoke(
	ctx context.Context, method string, request, response any, options ...grpc.CallOption,
) error {
	ctx, conn := c.current(ctx)
	return conn.Invoke(ctx, method, request, response, options...)
}

// NewStream opens a stream, once.
func (c *Client) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, conn := c.current(ctx)
	return conn.NewStream(ctx, desc, method, options...)
}

// repeating is a Client whose unary calls are repeated while that is safe, and fail with *Error.
type repeating struct{ *Client }

func (c repeating) Invoke(
	ctx context.Context, method string, request, response any, options ...grpc.CallOption,
) error {
	ctx, stop := c.whileOpen(ctx)
	defer stop()
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, allAttempts)
		defer cancel()
	}
	if err := sendable(request.(proto.Message)); err != nil {
		return err
	}
	until, _ := ctx.Deadline()
	doubt := false
	for failures := 0; ; failures++ {
		withToken, conn := c.current(ctx)
		attempt, cancel := context.WithTimeout(withToken, oneAttempt)
		failure := ErrorOf(conn.Invoke(attempt, method, request, response, options...))
		cancel()
		if failure == nil {
			return nil
		}
		doubt = doubt || failure.OutcomeUnknown
		failure.OutcomeUnknown = failure.OutcomeUnknown || doubt && failure.Retryable
		pause := max(backoff(failures), failure.RetryDelay)
		again := failure.Retryable && (failure.Reason != "" || twice(method, request))
		if !again || time.Until(until) <= pause || !sleep(ctx, pause) {
			return failure
		}
		if failure.Code == codes.DeadlineExceeded {
			c.renew(conn)
		}
	}
}

// twice tells whether a call without an answer may be sent again: whether it does the same then.
func twice(method string, request any) bool {
	if post, ok := request.(*pb.PostMessageRequest); ok {
		return post.RequestId != ""
	}
	switch method[strings.LastIndexByte(method, '/')+1:] {
	case "CreateThread", "SetThreadState", "DeleteThread", "RotateToken", "UnregisterAgent":
		return false
	}
	return true
}

// sendable refuses text that is not UTF-8: gRPC calls it INTERNAL, as if a repeat could help.
func sendable(request proto.Message) error {
	if _, err := proto.Marshal(request); err != nil {
		return ErrorOf(status.Error(codes.InvalidArgument, err.Error()))
	}
	return nil
}

// current is the connection of now, and ctx with the token of now.
func (c *Client) current(ctx context.Context) (context.Context, *grpc.ClientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
	}
	return ctx, c.conn
}

// renew puts a new connection in the place of a silent one: gRPC itself takes up to 40 s to tell.
func (c *Client) renew(silent *grpc.ClientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != silent || c.open.Err() != nil {
		return
	}
	fresh, err := grpc.NewClient(c.address, c.options...)
	if err != nil {
		return // it did not fail with the same arguments before
	}
	c.conn = fresh
	go func() { // attempts under way on the silent one go on
		sleep(c.open, oneAttempt)
		_ = silent.Close()
	}()
}

// whileOpen is ctx until the client is closed.
func (c *Client) whileOpen(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.open, cancel)
	return ctx, func() { stop(); cancel() }
}

// backoff is how long to pause after so many failures in a row before the last one.
func backoff(failures int) time.Duration {
	pause := min(2*time.Second, 50*time.Millisecond<<min(failures, 10))
	return time.Duration(float64(pause) * (0.5 + rand.Float64()/2))
}

// sleep tells whether the time passed before ctx was done.
func sleep(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}
