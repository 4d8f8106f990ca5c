package threadbus

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
)

// sendable returns an error if a string in request is not valid UTF-8: INVALID_ARGUMENT with the
// path of the field, as the server does for an invalid field. gRPC itself returns INTERNAL, which
// looks retryable.
func sendable(request any) error {
	message, is := request.(proto.Message)
	if !is {
		return nil
	}
	path := ""
	find := func(p protopath.Values) error {
		last := p.Index(-1)
		text, is := last.Value.Interface().(string)
		wrong := is && !utf8.ValidString(text)
		if last.Step.Kind() == protopath.MapIndexStep {
			key, is := last.Step.MapIndex().Interface().(string)
			wrong = wrong || is && !utf8.ValidString(key)
		}
		if wrong {
			path = strings.TrimPrefix(p.Path[1:].String(), ".") // without the root
			return protorange.Terminate
		}
		return nil
	}
	inOrder := protorange.Options{Stable: true}
	if err := inOrder.Range(message.ProtoReflect(), find, nil); err != nil {
		return ErrorOf(status.Error(codes.InvalidArgument, err.Error()))
	}
	if path == "" {
		return nil
	}
	said := status.New(codes.InvalidArgument, fmt.Sprintf("%s is not UTF-8", path))
	refusal, err := said.WithDetails(
		&errdetails.ErrorInfo{Domain: domain, Reason: "VALIDATION_FAILED"},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: path, Description: "not UTF-8"},
		}})
	if err != nil {
		panic(err) // these details can always be packed
	}
	return ErrorOf(refusal.Err())
}

// sendableStream is a stream whose SendMsg refuses messages that are not sendable. The stream stays
// usable.
type sendableStream struct{ grpc.ClientStream }

func (s sendableStream) SendMsg(request any) error {
	if err := sendable(request); err != nil {
		return err
	}
	return s.ClientStream.SendMsg(request)
}
