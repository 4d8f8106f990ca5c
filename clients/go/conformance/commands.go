package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"reflect"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	threadbus "threadbus.dev/clients/go"
	pb "threadbus.dev/gen/go/threadbus/v1"
)

// run runs a command and returns its result, which can be marshaled as JSON.
func (d *driver) run(ctx context.Context, bus *threadbus.Client, c command) (any, error) {
	if c.Do == "cancel" {
		d.cancel(c.Target)
		return struct{}{}, nil
	}
	if bus == nil {
		return nil, invalid(errors.New("open first"))
	}
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(c.Timeout*float64(time.Second)))
		defer cancel()
	}
	if c.Trace != nil && c.Do != "call" {
		ctx = threadbus.ContinueTrace(ctx, *c.Trace)
	}
	switch c.Do {
	case "call":
		if c.Trace != nil {
			ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", *c.Trace)
		}
		stubs := []any{
			pb.NewBusServiceClient(bus), pb.NewThreadServiceClient(bus), pb.NewAgentServiceClient(bus),
		}
		return call(ctx, stubs, c.Method, c.Request)
	case "invoke":
		return call(ctx, []any{bus.Bus, bus.Threads, bus.Agents}, c.Method, c.Request)
	case "wait":
		return struct{}{}, d.wait(ctx, bus, c)
	case "post_many":
		return struct{}{}, d.postMany(ctx, bus, c)
	case "register":
		return struct{}{}, bus.Register(ctx, c.Agent, c.Token)
	case "join":
		start, known := pb.JoinStart_value[c.Start]
		if !known && c.Start != "" {
			return nil, unknown("start", c.Start)
		}
		return answer(bus.Join(ctx, c.Thread, pb.JoinStart(start)))
	case "post":
		request := &pb.PostMessageRequest{}
		if err := parse(c.Request, request); err != nil {
			return nil, err
		}
		return answer(bus.Post(ctx, request))
	case "ask":
		request := &pb.PostMessageRequest{}
		if err := parse(c.Request, request); err != nil {
			return nil, err
		}
		reply, err := bus.Ask(ctx, request)
		if err != nil {
			return nil, err
		}
		return toJSON(reply.Message), nil
	case "follow", "inbox":
		return struct{}{}, d.follow(ctx, bus, c)
	case "read":
		cursor := &pb.Cursor{}
		if err := parse(c.Cursor, cursor); err != nil {
			return nil, err
		}
		return struct{}{}, bus.MarkRead(ctx, cursor)
	case "goodbye":
		return struct{}{}, bus.Goodbye(ctx)
	}
	return nil, unknown("command", c.Do)
}

// call calls the unary method name of one of the stubs.
func call(ctx context.Context, stubs []any, name string, request []byte) (any, error) {
	for _, stub := range stubs {
		method := reflect.ValueOf(stub).MethodByName(name) // takes a context, a request, options
		if !method.IsValid() || method.Type().NumIn() != 3 {
			continue
		}
		argument := reflect.New(method.Type().In(1).Elem())
		if err := parse(request, argument.Interface().(proto.Message)); err != nil {
			return nil, err
		}
		results := method.Call([]reflect.Value{reflect.ValueOf(ctx), argument})
		err, _ := results[1].Interface().(error)
		response, unary := results[0].Interface().(proto.Message)
		if !unary {
			break
		}
		return answer(response, err)
	}
	return nil, unknown("unary method", name)
}

func (d *driver) wait(ctx context.Context, bus *threadbus.Client, c command) error {
	request := &pb.WaitMessagesRequest{}
	if err := parse(c.Request, request); err != nil {
		return err
	}
	stream, err := pb.NewBusServiceClient(bus).WaitMessages(ctx, request)
	if err != nil {
		return err
	}
	return sayAll(d, c.ID, "frame", stream)
}

func (d *driver) postMany(ctx context.Context, bus *threadbus.Client, c command) error {
	requests := make([]*pb.PostMessagesRequest, len(c.Requests))
	for i, text := range c.Requests {
		requests[i] = &pb.PostMessagesRequest{}
		if err := parse(text, requests[i]); err != nil {
			return err
		}
	}
	stream, err := pb.NewBusServiceClient(bus).PostMessages(ctx)
	if err != nil {
		return err
	}
	go func() {
		for _, request := range requests {
			if stream.Send(request) != nil {
				return // Recv returns the error
			}
		}
		_ = stream.CloseSend()
	}()
	return sayAll(d, c.ID, "response", stream)
}

// sayAll writes a line for each message of a stream. It returns the stream's error, nil for OK.
func sayAll[Response any](
	d *driver, id int64, what string, stream grpc.ServerStreamingClient[Response],
) error {
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		d.say(id, line{what: toJSON(any(response).(proto.Message))})
	}
}

// follow runs a follow or an inbox.
func (d *driver) follow(ctx context.Context, bus *threadbus.Client, c command) error {
	if c.OnResync != "" && c.OnResync != "continue" {
		return unknown("on_resync", c.OnResync)
	}
	options := threadbus.FollowOptions{
		ContinueOnResync: c.OnResync == "continue", OmitAttachmentData: c.Omit, MaxContentBytes: c.Most,
	}
	if c.Own {
		options.Filter = &pb.MessageFilter{}
	}
	var messages iter.Seq2[*threadbus.Message, error]
	if c.Do == "inbox" {
		if c.Mine != nil && !*c.Mine {
			options.Filter = &pb.MessageFilter{ExcludeOwn: true}
		}
		messages = bus.Inbox(ctx, options)
	} else {
		cursor := &pb.Cursor{}
		if err := parse(c.Cursor, cursor); err != nil {
			return err
		}
		messages = bus.Follow(ctx, cursor, options)
	}
	for message, err := range messages {
		if err != nil {
			return err
		}
		d.say(c.ID, line{"message": toJSON(message.Message), "truncated": message.Truncated()})
		if c.Read {
			if err := bus.MarkRead(ctx, message.Cursor()); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
	return nil
}

// parse parses JSON into message. Unknown fields are an error.
func parse(text []byte, message proto.Message) error {
	if err := protojson.Unmarshal(escape.ReplaceAllFunc(text, marked), message); err != nil {
		return invalid(err)
	}
	return unmark(message)
}

func answer(response proto.Message, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return toJSON(response), nil
}

func toJSON(message proto.Message) json.RawMessage {
	text, err := protojson.Marshal(message)
	if err != nil {
		panic(err) // a parsed message can always be marshaled
	}
	return text
}

func errorJSON(err error) map[string]any {
	failure := threadbus.ErrorOf(err)
	details := []json.RawMessage{}
	for _, detail := range failure.GRPCStatus().Proto().GetDetails() {
		details = append(details, toJSON(detail))
	}
	fields := map[string]any{
		"code": failure.CodeName(), "reason": failure.Reason, "message": failure.Message,
		"metadata": failure.Metadata, "details": details, "outcome_unknown": failure.OutcomeUnknown,
	}
	var lost *threadbus.CursorLost
	if errors.As(err, &lost) {
		fields["resync"] = toJSON(lost.Resync)
	}
	var unanswered *threadbus.Unanswered
	if errors.As(err, &unanswered) {
		fields["unanswered"] = line{
			"reason": unanswered.Reason, "agent": unanswered.Agent, "seq": unanswered.Seq,
		}
	}
	return fields
}
