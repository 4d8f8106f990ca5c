// The conformance driver; see tests/conformance/README.md.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	threadbus "threadbus.dev/clients/go"
)

// command is a line of stdin. Fields that its `do` does not use are empty.
type command struct {
	ID       int64             `json:"id"`
	Do       string            `json:"do"`
	Address  string            `json:"address"`
	Token    string            `json:"token"`
	CAFile   string            `json:"ca_file"`
	Cert     string            `json:"client_cert"`
	Key      string            `json:"client_key"`
	Method   string            `json:"method"`
	Request  json.RawMessage   `json:"request"`
	Requests []json.RawMessage `json:"requests"`
	Timeout  float64           `json:"timeout"`     // seconds; 0 = none
	Trace    *string           `json:"traceparent"` // nil = none
	Agent    string            `json:"agent"`
	Thread   string            `json:"thread"`
	Start    string            `json:"start"`
	Cursor   json.RawMessage   `json:"cursor"`
	OnResync string            `json:"on_resync"`
	Own      bool              `json:"own"`
	Omit     bool              `json:"omit_attachment_data"`
	Most     int64             `json:"max_content_bytes"`
	Mine     *bool             `json:"addressed"` // nil = true
	Read     bool              `json:"read"`
	Target   int64             `json:"target"`
}

// driver runs commands concurrently.
type driver struct {
	bus     *threadbus.Client // for the next command
	running sync.WaitGroup
	mu      sync.Mutex // guards the fields below, and stdout
	cancels map[int64]context.CancelFunc
}

func main() {
	log.SetFlags(0)
	d := &driver{cancels: map[int64]context.CancelFunc{}}
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			d.begin(line)
		}
		if err != nil {
			break
		}
	}
	d.close()
	d.running.Wait()
}

// begin starts a command, with the client and the target at the time its line was read.
func (d *driver) begin(line []byte) {
	var c command
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		d.fail(c.ID, invalid(err))
		return
	}
	switch c.Do {
	case "open":
		d.close()
		var err error
		files := threadbus.TLSFiles{CAFile: c.CAFile, ClientCert: c.Cert, ClientKey: c.Key}
		d.bus, err = threadbus.Connect(c.Address, c.Token, files)
		d.answer(c.ID, struct{}{}, err)
		return
	case "close":
		d.close()
		d.answer(c.ID, struct{}{}, nil)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	bus := d.bus
	d.mu.Lock()
	d.cancels[c.ID] = cancel
	d.mu.Unlock()
	d.running.Add(1)
	go func() {
		defer d.running.Done()
		ok, err := d.run(ctx, bus, c)
		cancel()
		d.mu.Lock()
		delete(d.cancels, c.ID)
		d.mu.Unlock()
		d.answer(c.ID, ok, err)
	}()
}

func (d *driver) close() {
	if d.bus != nil {
		_ = d.bus.Close()
	}
}

func (d *driver) cancel(target int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if cancel := d.cancels[target]; cancel != nil {
		cancel()
	}
}

// answer writes the last line of a command: its result or error.
func (d *driver) answer(id int64, ok any, err error) {
	if err != nil {
		d.fail(id, err)
		return
	}
	d.say(id, line{"ok": ok})
}

func (d *driver) fail(id int64, err error) { d.say(id, line{"error": errorJSON(err)}) }

// line is an object of JSON.
type line map[string]any

// say writes a line of a command.
func (d *driver) say(id int64, fields line) {
	fields["id"] = id
	d.mu.Lock()
	defer d.mu.Unlock()
	encoder := json.NewEncoder(os.Stdout) // not buffered
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(fields); err != nil {
		log.Fatal(err)
	}
}

func invalid(err error) error { return status.Error(codes.InvalidArgument, err.Error()) }

func unknown(what, name string) error {
	return status.Error(codes.Unimplemented, fmt.Sprintf("no %s %q", what, name))
}
