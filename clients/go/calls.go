package threadbus

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

const (
	oneAttempt  = 10 * time.Second // for one attempt of a call
	allAttempts = 30 * time.Second // for a call whose context has no deadline

	longestDelay = time.Minute // longest RetryDelay that is respected
)

// Invoke makes a unary call for a stub, without retries. Strings that are not UTF-8 are refused with
// INVALID_ARGUMENT.
func (c *Client) Invoke(
	ctx context.Context, method string, request, response any, options ...grpc.CallOption,
) error {
	if err := sendable(request); err != nil {
		return err
	}
	ctx, conn := c.current(ctx)
	return conn.Invoke(ctx, method, request, response, options...)
}

// NewStream opens a stream for a stub, without retries.
func (c *Client) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, conn := c.current(ctx)
	stream, err := conn.NewStream(ctx, desc, method, options...)
	if err != nil {
		return nil, err
	}
	return sendableStream{stream}, nil
}

// repeating is a Client that retries unary calls where that is safe, until the context life is
// done.
type repeating struct {
	*Client
	life context.Context
}

func (c repeating) Invoke(
	ctx context.Context, method string, request, response any, options ...grpc.CallOption,
) error {
	if err := sendable(request); err != nil {
		return err
	}
	ctx, cancel := during(c.life, ctx)
	defer cancel()
	if _, bounded := ctx.Deadline(); !bounded {
		ctx, cancel = context.WithTimeout(ctx, allAttempts)
		defer cancel()
	}
	doubt := false
	for failures := 0; ; failures++ {
		attempt, cancel := context.WithTimeout(ctx, oneAttempt)
		attempt, conn := c.current(attempt)
		c.sending.RLock()
		failure := c.told(conn.Invoke(attempt, method, request, response, options...))
		c.sending.RUnlock()
		cancel()
		if failure == nil {
			return nil
		}
		// A refusal by the server settles the outcome of earlier attempts, except UNAUTHENTICATED
		// and those that are retried.
		doubt = doubt || failure.OutcomeUnknown
		unsettled := failure.Retryable || failure.Reason == "" || failure.Code == codes.Unauthenticated
		failure.OutcomeUnknown = failure.OutcomeUnknown || doubt && unsettled
		again := failure.Retryable && (!failure.OutcomeUnknown || repeatable(method, request))
		delay := asked(failure.RetryDelay)
		if until, _ := ctx.Deadline(); !again || time.Until(until) <= delay {
			return failure
		}
		if !sleep(ctx, max(backoff(failures), delay)) {
			return failure
		}
		if failure.Code == codes.DeadlineExceeded {
			c.renew(conn)
		}
	}
}

// repeatable reports whether a call whose outcome is unknown may be sent again: its method, such as
// "/threadbus.v1.BusService/GetMessage", has an idempotency level, or the request has a request_id.
func repeatable(method string, request any) bool {
	if post, ok := request.(interface{ GetRequestId() string }); ok && post.GetRequestId() != "" {
		return true
	}
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil { // a method newer than these stubs
		return false
	}
	options, _ := found.Options().(*descriptorpb.MethodOptions)
	return options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
}

// current returns ctx with the current token, and the current connection.
func (c *Client) current(ctx context.Context) (context.Context, *grpc.ClientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
	}
	return ctx, c.conn
}

// renew replaces a silent connection, which gRPC itself would take up to 40 s to detect. It does
// nothing if silent is no longer the current connection. Other calls on the old one fail and are
// retried on the new one.
func (c *Client) renew(silent *grpc.ClientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != silent || c.open.Err() != nil {
		return
	}
	if fresh, err := c.dial(); err == nil { // the same arguments have worked before
		c.conn = fresh
		_ = silent.Close()
	}
}

// during returns a copy of ctx that is also done when life is done.
func during(life, ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(life, cancel)
	return ctx, func() { stop(); cancel() }
}

// backoff returns the pause after a failure, given the number of consecutive failures before it.
func backoff(failures int) time.Duration {
	pause := min(2*time.Second, 50*time.Millisecond<<min(failures, 10))
	return time.Duration(float64(pause) * (0.5 + rand.Float64()/2))
}

// asked returns a delay that the server asked for, limited to longestDelay.
func asked(delay time.Duration) time.Duration { return min(delay, longestDelay) }

// sleep pauses. It returns false if ctx is done first.
func sleep(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}
