// Package threadbus is a client of ThreadBus: join a thread, follow it, post to it.
//
// Requests and answers are the contract's own messages, from threadbus.dev/gen/go/threadbus/v1.
package threadbus

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"regexp"
	"sync"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"
	pb "threadbus.dev/gen/go/threadbus/v1"
)

// Client is an agent's way to a server. All of it may be used from many goroutines at once.
//
// A unary call of Bus, Threads and Agents is repeated while that is safe, until its context's
// deadline, or for 30 s if there is none, and fails with *Error. Client itself is a
// grpc.ClientConnInterface: stubs made with it send a call once.
type Client struct {
	Bus     pb.BusServiceClient
	Threads pb.ThreadServiceClient
	Agents  pb.AgentServiceClient

	address string
	options []grpc.DialOption
	open    context.Context // done when the client is closed
	close   context.CancelFunc

	mu             sync.Mutex
	token          string
	conn           *grpc.ClientConn
	unreported     map[string]*pb.Cursor // what was read and not yet told, by thread
	stopHeartbeats func()
}

var local = regexp.MustCompile(`^(127\.|localhost:|\[::1\]|unix:)`)

// Connect makes a client of the server at address, HOST:PORT or unix:PATH. It does not wait for the
// server. Calls carry the token, if it is not empty. The options come after the client's own:
// with grpc.WithTransportCredentials it speaks TLS.
func Connect(address, token string, options ...grpc.DialOption) (*Client, error) {
	own := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{ // by default never
			Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16 << 20)), // by default 4 MiB
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: grpcbackoff.Config{ // the default's 120 s would strand agents
				BaseDelay: 250 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second,
			},
			MinConnectTimeout: oneAttempt,
		}),
	}
	if local.MatchString(address) {
		own = append(own, grpc.WithNoProxy())
	}
	options = append(own, options...)
	conn, err := grpc.NewClient(address, options...)
	if err != nil {
		return nil, err
	}
	c := &Client{
		address: address, options: options, token: token, conn: conn,
		unreported: map[string]*pb.Cursor{}, stopHeartbeats: func() {},
	}
	c.open, c.close = context.WithCancel(context.Background())
	c.Bus = pb.NewBusServiceClient(repeating{c})
	c.Threads = pb.NewThreadServiceClient(repeating{c})
	c.Agents = pb.NewAgentServiceClient(repeating{c})
	return c, nil
}

// Register calls as agent from now on, and says that it is alive until Goodbye or Close. With the
// same token, 32–128 of A-Z a-z 0-9 _ -, it is the same agent the next time. An empty token is
// made up: then the name can be used once. An agent already registered is only kept alive.
func (c *Client) Register(ctx context.Context, agent, token string) error {
	if token == "" {
		secret := make([]byte, 32)
		_, _ = rand.Read(secret) // never fails
		token = base64.RawURLEncoding.EncodeToString(secret)
	}
	request := &pb.RegisterAgentRequest{Agent: agent, Token: token}
	if _, err := c.Agents.RegisterAgent(ctx, request); err != nil {
		return err
	}
	c.mu.Lock()
	c.token = token
	c.mu.Unlock()
	c.startHeartbeats()
	return nil
}

// Join enters the thread, which is created when it is not there. Follow the answer's Cursor.
// Threads.JoinThread has more to ask for.
func (c *Client) Join(
	ctx context.Context, thread string, start pb.JoinStart,
) (*pb.JoinThreadResponse, error) {
	request := &pb.JoinThreadRequest{Thread: thread, Create: true, Start: start}
	return c.Threads.JoinThread(ctx, request)
}

// Post posts once, however often it has to be sent: the request gets an id if it has none. After an
// Error with OutcomeUnknown, post again with its RequestID, or not at all.
func (c *Client) Post(
	ctx context.Context, request *pb.PostMessageRequest,
) (*pb.PostMessageResponse, error) {
	request = proto.CloneOf(request)
	if request.RequestId == "" { // ids that ascend are stored the quickest
		request.RequestId = fmt.Sprintf("%012x-%s", time.Now().UnixMilli(), rand.Text())
	}
	response, err := c.Bus.PostMessage(ctx, request)
	if err != nil {
		failure := ErrorOf(err)
		failure.RequestID = request.RequestId
		return nil, failure
	}
	return response, nil
}

// Goodbye ends the agent's session: it is offline at once, and what follows on it ends. Any later
// call brings it back; its heartbeats come back with Register.
func (c *Client) Goodbye(ctx context.Context) error {
	c.takeHeartbeats(func() {})() // one after the goodbye would take it back
	_, err := c.Agents.EndSession(ctx, &pb.EndSessionRequest{})
	return err
}

// Close ends all that runs on the client. It is no goodbye: the agent lapses.
func (c *Client) Close() error {
	c.close()
	c.takeHeartbeats(func() {})()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn.Close()
}
