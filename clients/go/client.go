// Package threadbus is a client of ThreadBus: join a thread, follow it, post to it.
//
// Requests and answers are the contract's own messages, from threadbus.dev/gen/go/threadbus/v1.
package threadbus

import (
	"context"
	"crypto/rand"
	"fmt"
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

	dial       func() (*grpc.ClientConn, error)
	open       context.Context // until Close
	close      context.CancelFunc
	session    context.Context // until Goodbye or Close
	endSession context.CancelFunc
	sending    sync.RWMutex // read-locked while a call of the session may still be sent
	heartbeats sync.Once

	mu    sync.Mutex // of what follows
	conn  *grpc.ClientConn
	token string
}

// Connect makes a client of the server at address, HOST:PORT or unix:PATH. It does not wait for the
// server. Calls carry the token, if it is not empty. The options come after the client's own:
// with grpc.WithTransportCredentials it speaks TLS.
func Connect(address, token string, options ...grpc.DialOption) (*Client, error) {
	options = append([]grpc.DialOption{
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
	}, options...)
	c := &Client{token: token}
	c.dial = func() (*grpc.ClientConn, error) { return grpc.NewClient(address, options...) }
	var err error
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

// Register calls as agent from now on, and says that it is alive until Goodbye or Close. With the
// same token, 32–128 of A-Z a-z 0-9 _ -, it is the same agent the next time. An empty token is
// made up: then the name can be used once. An agent already registered is only kept alive.
func (c *Client) Register(ctx context.Context, agent, token string) error {
	if token == "" {
		token = rand.Text() + rand.Text()
	}
	request := &pb.RegisterAgentRequest{Agent: agent, Token: token}
	if _, err := c.Agents.RegisterAgent(ctx, request); err != nil {
		return err
	}
	c.mu.Lock()
	c.token = token
	c.mu.Unlock()
	c.heartbeats.Do(func() { go c.keepAlive() })
	return nil
}

// keepAlive sends a heartbeat now, and then whenever the server wants one.
func (c *Client) keepAlive() {
	for pause := time.Duration(0); sleep(c.session, pause); {
		response, err := c.Bus.Heartbeat(c.session, &pb.HeartbeatRequest{})
		pause = response.GetHeartbeatInterval().AsDuration()
		switch {
		case err != nil:
			pause = oneAttempt // though it was repeated
		case pause <= 0:
			pause = 40 * time.Second
		}
		pause = min(max(pause, time.Second/2), time.Hour)
	}
}

// Join enters the thread, which is created when it is not there. Follow the answer's Cursor.
// Threads.JoinThread has more to ask for.
func (c *Client) Join(
	ctx context.Context, thread string, start pb.JoinStart,
) (*pb.JoinThreadResponse, error) {
	request := &pb.JoinThreadRequest{Thread: thread, Create: true, Start: start}
	response, err := c.Threads.JoinThread(ctx, request)
	if err == nil {
		err = check(response.Cursor, thread, "")
	}
	return response, err
}

// Post posts once, however often it has to be sent: the request gets an id if it has none. After an
// Error with OutcomeUnknown, post again with its RequestID, or not at all.
func (c *Client) Post(
	ctx context.Context, request *pb.PostMessageRequest,
) (*pb.PostMessageResponse, error) {
	if request.RequestId == "" { // ids that ascend are stored the quickest
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

// MarkRead tells what was read: the next Join goes on from there. The last one is enough.
func (c *Client) MarkRead(ctx context.Context, cursor *pb.Cursor) error {
	request := &pb.HeartbeatRequest{ReadCursors: []*pb.Cursor{cursor}}
	_, err := c.Bus.Heartbeat(ctx, request)
	return err
}

// Goodbye ends the agent's session: it is offline at once. Any later call would bring it back, so
// all that runs on the client ends, and but for Goodbye and Close it is of no more use.
func (c *Client) Goodbye(ctx context.Context) error {
	c.endSession()
	c.sending.Lock() // what was about to be sent is sent now, or never
	c.sending.Unlock()
	agents := pb.NewAgentServiceClient(repeating{c, c.open})
	_, err := agents.EndSession(ctx, &pb.EndSessionRequest{})
	return err
}

// Close ends all that runs on the client. It is no goodbye: the agent lapses.
func (c *Client) Close() error {
	c.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn.Close()
}
