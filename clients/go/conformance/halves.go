package main

import (
	"regexp"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Half of a surrogate pair, which neither protojson nor UTF-8 can represent, is three bytes in a Go
// string. While JSON is parsed, the mark, a noncharacter, replaces it.
const (
	half = "\xed\xa0\xbd"
	mark = "\ufdd0"
)

var (
	escape = regexp.MustCompile(`\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u....|.)`)
	alone  = regexp.MustCompile(`^\\u[dD][89a-fA-F]..$`)
)

func marked(escape []byte) []byte {
	if alone.Match(escape) {
		return []byte(mark)
	}
	return escape
}

// unmark replaces the marks in strings with half surrogate pairs, except in the keys of maps.
func unmark(message proto.Message) error {
	return protorange.Range(message.ProtoReflect(), func(p protopath.Values) error {
		last := p.Index(-1)
		text, is := last.Value.Interface().(string)
		if !is || !strings.Contains(text, mark) {
			return nil
		}
		value := protoreflect.ValueOfString(strings.ReplaceAll(text, mark, half))
		switch in := p.Index(-2).Value.Interface().(type) {
		case protoreflect.Message:
			in.Set(last.Step.FieldDescriptor(), value)
		case protoreflect.List:
			in.Set(last.Step.ListIndex(), value)
		case protoreflect.Map:
			in.Set(last.Step.MapIndex(), value)
		}
		return nil
	})
}
