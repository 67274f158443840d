package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"go-micro.dev/v5/client"
	"go-micro.dev/v5/codec"
	cjson "go-micro.dev/v5/codec/json"
	"go-micro.dev/v5/errors"
	"go-micro.dev/v5/registry"
)

// A case returns what went wrong.
type testCase func() error

var (
	caller client.Client
	lines  = bufio.NewScanner(os.Stdin)
)

// early cases begin before a server is there.
var early = map[string]bool{"list_nodes": true, "watch_add_and_remove": true}

func runCases() {
	caller = newClient()
	if *target == "" && !early[*caseNames] {
		// One look-up of Go's ends after 100 ms, too short on a busy machine; what it finds is remembered for the calls.
		_ = eventually(3, func() error {
			_, err := caller.Options().Selector.Select(*name)
			return err
		})
	}
	for _, each := range strings.Split(*caseNames, ",") {
		started := time.Now()
		line := map[string]interface{}{"case": each, "ok": true}
		if err := runCase(each); err != nil {
			line["ok"], line["detail"] = false, err.Error()
		}
		line["seconds"] = time.Since(started).Seconds()
		say(line)
	}
}

func runCase(name string) error {
	run, ok := cases[name]
	if !ok {
		return fmt.Errorf("no such case")
	}
	done := make(chan error, 1)
	go func() { done <- run() }()
	select {
	case err := <-done:
		return err
	case <-time.After(60 * time.Second):
		return fmt.Errorf("no end after 60 s")
	}
}

func newClient() client.Client {
	return client.NewClient(
		client.ContentType(*contentType),
		client.Codec("application/x-interop", codec.NewCodec(cjson.NewCodec)),
	)
}

func say(line map[string]interface{}) {
	text, err := json.Marshal(line)
	check(err)
	fmt.Println(string(text))
}

// waitForWord tells the test that it is its turn, and waits until it answers.
func waitForWord(event string) {
	say(map[string]interface{}{"event": event})
	lines.Scan()
}

func callOptions(options ...client.CallOption) []client.CallOption {
	if *target != "" {
		options = append(options, client.WithAddress(*target))
	}
	return options
}

func call(endpoint string, request, reply interface{}, options ...client.CallOption) error {
	return callIn(context.Background(), endpoint, request, reply, options...)
}

func callIn(ctx context.Context, endpoint string, request, reply interface{}, options ...client.CallOption) error {
	return caller.Call(ctx, caller.NewRequest(*name, endpoint, request), reply, callOptions(options...)...)
}

func open(endpoint string, first *Item) (client.Stream, error) {
	request := caller.NewRequest(*name, endpoint, first, client.StreamingRequest())
	return caller.Stream(context.Background(), request, callOptions()...)
}

func expect(what string, got, wanted interface{}) error {
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		return fmt.Errorf("%s: got %.200q, not %.200q", what, fmt.Sprint(got), fmt.Sprint(wanted))
	}
	return nil
}

// expectError says what is wrong with an error that should have an id, a code and a detail.
func expectError(err error, id string, code int32, detail string) error {
	if err == nil {
		return fmt.Errorf("no error")
	}
	found := errors.Parse(err.Error())
	return expect("error", fmt.Sprint(found.Id, " ", found.Code, " ", found.Detail), fmt.Sprint(id, " ", code, " ", detail))
}

// eventually tries until it succeeds, for some seconds.
func eventually(seconds float64, try func() error) error {
	deadline := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// knownNodes returns the addresses that the registry knows now.
func knownNodes() (map[string]*registry.Service, error) {
	services, err := registry.GetService(*name)
	if err != nil {
		return nil, err
	}
	found := map[string]*registry.Service{}
	for _, service := range services {
		for _, node := range service.Nodes {
			found[node.Address] = service
		}
	}
	return found, nil
}
