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
	oneAttempt  = 10 * time.Second // for one try of a call
	allAttempts = 30 * time.Second // for a call whose context has no deadline

	longestDelay = time.Minute // that a server may ask for
)

// Invoke makes a unary call for a stub, once.
func (c *Client) Invoke(
	ctx context.Context, method string, request, response any, options ...grpc.CallOption,
) error {
	if err := sendable(request); err != nil {
		return err
	}
	ctx, conn := c.current(ctx)
	return conn.Invoke(ctx, method, request, response, options...)
}

// NewStream opens a stream for a stub, once.
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

// repeating is a Client whose unary calls are repeated while that is safe, as long as life lasts.
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
		failure := ErrorOf(conn.Invoke(attempt, method, request, response, options...))
		c.sending.RUnlock()
		cancel()
		if failure == nil {
			return nil
		}
		// The server's refusal settles what became of the attempts before, but that of the token.
		doubt = doubt || failure.OutcomeUnknown
		unsettled := failure.Retryable || failure.Reason == "" || failure.Code == codes.Unauthenticated
		failure.OutcomeUnknown = failure.OutcomeUnknown || doubt && unsettled
		again := failure.Retryable && (!failure.OutcomeUnknown || repeatable(method, request))
		if !again || !sleep(ctx, max(backoff(failures), asked(failure.RetryDelay))) {
			return failure
		}
		if failure.Code == codes.DeadlineExceeded {
			c.renew(conn)
		}
	}
}

// repeatable reports whether a call whose outcome is unknown may be sent again: the contract gives
// its method, "/threadbus.v1.BusService/GetMessage", an idempotency level, or the request has an id.
func repeatable(method string, request any) bool {
	if post, ok := request.(interface{ GetRequestId() string }); ok && post.GetRequestId() != "" {
		return true
	}
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil { // of a newer contract than these stubs
		return false
	}
	options, _ := found.Options().(*descriptorpb.MethodOptions)
	return options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
}

// current is ctx with the token of now, and the connection of now.
func (c *Client) current(ctx context.Context) (context.Context, *grpc.ClientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
	}
	return ctx, c.conn
}

// renew puts a new connection in the place of a silent one: gRPC itself takes up to 40 s to tell.
// What else is under way on it breaks, and comes again on the new one.
func (c *Client) renew(silent *grpc.ClientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != silent || c.open.Err() != nil {
		return
	}
	if fresh, err := c.dial(); err == nil { // it did not fail with the same arguments before
		c.conn = fresh
		_ = silent.Close()
	}
}

// during is ctx, done also when life is.
func during(life, ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(life, cancel)
	return ctx, func() { stop(); cancel() }
}

// backoff is how long to pause after so many failures in a row before the last one.
func backoff(failures int) time.Duration {
	pause := min(2*time.Second, 50*time.Millisecond<<min(failures, 10))
	return time.Duration(float64(pause) * (0.5 + rand.Float64()/2))
}

// asked is the pause that a server asks for, as far as it is heeded.
func asked(delay time.Duration) time.Duration { return min(delay, longestDelay) }

// sleep tells whether the time passed before ctx was done.
func sleep(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}
