// Package threadbus is a client of ThreadBus: join a thread, follow it, post to it.
//
// Requests and responses are the contract's messages, from threadbus.dev/gen/go/threadbus/v1.
package threadbus

import (
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	pb "threadbus.dev/gen/go/threadbus/v1"
)

// Client connects an agent to a server. It is safe for concurrent use.
//
// Unary calls of Bus, Threads and Agents are retried where that is safe, until the context's
// deadline, or for 30 s if it has none. They fail with *Error. Client itself is a
// grpc.ClientConnInterface: stubs created with it do not retry.
type Client struct {
	Bus     pb.BusServiceClient
	Threads pb.ThreadServiceClient
	Agents  pb.AgentServiceClient

	dial       func() (*grpc.ClientConn, error)
	open       context.Context // until Close
	close      context.CancelFunc
	session    context.Context // until Goodbye or Close
	endSession context.CancelFunc
	sending    sync.RWMutex // read-locked while a call of the session may be sent
	heartbeats sync.Once
	answered   atomic.Bool // whether the server has responded to any call

	mu    sync.Mutex // guards the fields below
	conn  *grpc.ClientConn
	token string
	agent string // whose token it is; empty = not known yet
}

// Connect returns a client of the server at address: HOST, HOST:PORT or unix:PATH. The default port is
// 7420. Connections use TLS, but not those to this machine: localhost, 127.0.0.0/8, ::1 and Unix
// sockets. tls://HOST:PORT and plaintext://HOST:PORT say which to use. Connect does not wait for the
// server. Calls carry the token unless it is empty. The options are applied after the client's own.
// TLSFiles is one of them. It returns an *Error INVALID_ARGUMENT for an invalid address or file.
func Connect(address, token string, options ...grpc.DialOption) (*Client, error) {
	endpoint, secure, err := target(address)
	if err != nil {
		return nil, err
	}
	var files TLSFiles
	for _, option := range options {
		if given, is := option.(TLSFiles); is {
			files = given
		}
	}
	transport, err := files.credentials(secure)
	if err != nil {
		return nil, err
	}
	options = append([]grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{ // off by default
			Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16 << 20)), // default: 4 MiB
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: grpcbackoff.Config{ // with the default, agents could stay offline for 120 s
				BaseDelay: 250 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second,
			},
			MinConnectTimeout: oneAttempt,
		}),
	}, options...)
	c := &Client{token: token}
	c.dial = func() (*grpc.ClientConn, error) { return grpc.NewClient(endpoint, options...) }
	if c.conn, err = c.dial(); err != nil {
		return nil, err
	}
	c.open, c.close = context.WithCancel(context.Background())
	c.session, c.endSession = context.WithCancel(c.open)
	repeated := repeating{c, c.session}
	c.Bus = pb.NewBusServiceClient(repeated)
	c.Threads = pb.NewThreadServiceClient(repeated)
	c.Agents = pb.NewAgentServiceClient(repeated)
	return c, nil
}

// Register registers agent, makes all later calls as that agent, and sends heartbeats until Goodbye
// or Close. Token is a secret of 32–128 characters of A-Z a-z 0-9 _ -. Use the same token to
// register the same agent again. If it is empty, Register generates one: then the name can be used
// only once.
func (c *Client) Register(ctx context.Context, agent, token string) error {
	if token == "" {
		token = rand.Text() + rand.Text()
	}
	request := &pb.RegisterAgentRequest{Agent: agent, Token: token}
	if _, err := c.Agents.RegisterAgent(ctx, request); err != nil {
		return err
	}
	c.mu.Lock()
	c.token, c.agent = token, agent
	c.mu.Unlock()
	c.heartbeats.Do(func() { go c.keepAlive() })
	return nil
}

// name returns the agent's name; empty = not known yet.
func (c *Client) name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.agent
}

// learnName asks the server for the agent's name, if Register was not called.
func (c *Client) learnName(ctx context.Context, conn *grpc.ClientConn) error {
	if c.name() != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, oneAttempt)
	defer cancel()
	info, err := pb.NewBusServiceClient(conn).GetServerInfo(ctx, &pb.GetServerInfoRequest{})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.agent == "" {
		c.agent = info.GetAgent()
	}
	return err
}

// keepAlive sends heartbeats at the server's interval until the session ends.
func (c *Client) keepAlive() {
	for pause := time.Duration(0); sleep(c.session, pause); {
		response, err := c.Bus.Heartbeat(c.session, &pb.HeartbeatRequest{})
		pause = response.GetHeartbeatInterval().AsDuration()
		switch {
		case err != nil:
			pause = oneAttempt // the call has already been retried
		case pause <= 0:
			pause = 40 * time.Second
		}
		pause = min(max(pause, time.Second/2), time.Hour)
	}
}

// Join joins the thread, which is created if needed. Pass the response's Cursor to Follow.
// Threads.JoinThread has more options.
func (c *Client) Join(
	ctx context.Context, thread string, start pb.JoinStart,
) (*pb.JoinThreadResponse, error) {
	request := &pb.JoinThreadRequest{Thread: thread, Create: true, Start: start}
	response, err := c.Threads.JoinThread(ctx, request)
	if err == nil && response.Cursor.GetThread() != thread {
		err = broken("a cursor of %q, not of %q", response.Cursor.GetThread(), thread)
	}
	if err == nil {
		err = check(response.Cursor, "")
	}
	return response, err
}

// Post posts a message, with retries, and stores it once: the request gets a request_id if it has
// none. After an *Error with OutcomeUnknown, post again with its RequestID, or not at all.
func (c *Client) Post(
	ctx context.Context, request *pb.PostMessageRequest,
) (*pb.PostMessageResponse, error) {
	if request.RequestId == "" { // ascending ids are stored fastest
		request = proto.CloneOf(request)
		request.RequestId = fmt.Sprintf("%012x-%s", time.Now().UnixMilli(), rand.Text())
	}
	response, err := c.Bus.PostMessage(ctx, request)
	if err == nil && (response.Seq < 1 || response.Seq > maxSeq) {
		failure := broken("the seq %d of a post", response.Seq)
		failure.OutcomeUnknown = true
		err = failure
	}
	if err != nil {
		failure := ErrorOf(err)
		failure.RequestID = request.RequestId
		return nil, failure
	}
	return response, nil
}

var traceparentForm = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// ContinueTrace returns a copy of ctx whose calls have this traceparent, in place of any other: what
// they append has it, such as a Post or the question of an Ask. Its format is that of W3C's header,
// version 00, and of Message.Traceparent. If it is empty or not valid, they have none.
func ContinueTrace(ctx context.Context, traceparent string) context.Context {
	sent, _ := metadata.FromOutgoingContext(ctx)
	sent = metadata.Join(sent) // not nil
	sent.Delete("traceparent")
	if traceparentForm.MatchString(traceparent) {
		sent.Set("traceparent", traceparent)
	}
	return metadata.NewOutgoingContext(ctx, sent)
}

// MarkRead reports everything up to cursor as read: the next Join continues after it.
func (c *Client) MarkRead(ctx context.Context, cursor *pb.Cursor) error {
	request := &pb.HeartbeatRequest{ReadCursors: []*pb.Cursor{cursor}}
	_, err := c.Bus.Heartbeat(ctx, request)
	return err
}

// Goodbye ends the agent's session: the agent is offline at once. Any later call would start a new
// session, so all calls and follows of the client end first, and afterwards only Goodbye and Close
// may be called.
func (c *Client) Goodbye(ctx context.Context) error {
	c.endSession()
	c.sending.Lock() // wait for calls that are being sent
	c.sending.Unlock()
	agents := pb.NewAgentServiceClient(repeating{c, c.open})
	_, err := agents.EndSession(ctx, &pb.EndSessionRequest{})
	return err
}

// Close ends all calls and follows of the client. It does not end the session: the agent lapses.
func (c *Client) Close() error {
	c.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn.Close()
}
