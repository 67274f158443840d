package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"go-micro.dev/v5/client"
	"go-micro.dev/v5/metadata"
)

const special = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"

var cases = map[string]testCase{}

func init() {
	for name, run := range map[string]testCase{
		"empty_unary":                emptyUnary,
		"large_unary":                func() error { return sized(271828, 314159) },
		"unary_1MiB":                 func() error { return sized(1<<20, 1<<20) },
		"concurrent_unary":           concurrentUnary,
		"timeout_on_sleeping_server": timeoutOnSleepingServer,
		"deadline_is_propagated":     deadlineIsPropagated,
		"error_code_and_detail":      func() error { return failing("no such user", 404) },
		"error_text_special":         func() error { return failing(special, 409) },
		"error_plain_text":           func() error { return failingPlainly("plain ☺ text") },
		"error_text_percent":         errorTextPercent,
		"custom_metadata":            customMetadata,
		"metadata_case_folding":      metadataCaseFolding,
		"unknown_endpoint":           func() error { return unknown(*name, "Interop.Nowhere", "Nowhere") },
		"unknown_service":            unknownService,
		"unsupported_content_type":   unsupportedContentType,
		"raw_bytes":                  rawBytes,
		"plain_struct":               plainStruct,
		"debug_health":               debugHealth,
		"soak":                       func() error { return soak(caller, *calls) },
		"channel_soak":               channelSoak,
	} {
		cases[name] = run
	}
}

func emptyUnary() error {
	reply := new(Item)
	if err := call("Interop.Echo", new(Item), reply); err != nil {
		return err
	}
	return expect("reply", reply, new(Item))
}

func sized(sent, wanted int) error {
	reply := new(Item)
	if err := call("Interop.Large", &Item{Body: make([]byte, sent), Number: int64(wanted)}, reply); err != nil {
		return err
	}
	return expect("sizes", fmt.Sprint(reply.Text, " ", len(reply.Body)), fmt.Sprint(sent, " ", wanted))
}

func concurrentUnary() error {
	return together(200, func(number int) error { return echo(caller, fmt.Sprintf("call %d", number)) })
}

// together runs so many at once and returns what one of them reports.
func together(count int, run func(int) error) error {
	results := make([]error, count)
	var group sync.WaitGroup
	for number := 0; number < count; number++ {
		group.Add(1)
		go func(number int) {
			defer group.Done()
			results[number] = run(number)
		}(number)
	}
	group.Wait()
	for _, err := range results {
		if err != nil {
			return err
		}
	}
	return nil
}

func echo(through client.Client, text string) error {
	reply := new(Item)
	request := through.NewRequest(*name, "Interop.Echo", &Item{Text: text, Number: 1 << 40})
	if err := through.Call(context.Background(), request, reply, callOptions()...); err != nil {
		return err
	}
	return expect("reply", reply, &Item{Text: text, Number: 1 << 40})
}

func timeoutOnSleepingServer() error {
	started := time.Now()
	err := call("Interop.Sleep", &Item{Number: 2000}, new(Item), client.WithRequestTimeout(300*time.Millisecond))
	if err == nil || !strings.Contains(err.Error(), `"code":408`) {
		return fmt.Errorf("not a timeout: %v", err)
	}
	if took := time.Since(started); took > 1500*time.Millisecond {
		return fmt.Errorf("took %v", took)
	}
	return nil
}

func deadlineIsPropagated() error {
	reply := new(Item)
	if err := call("Interop.Deadline", new(Item), reply, client.WithRequestTimeout(700*time.Millisecond)); err != nil {
		return err
	}
	if reply.Number <= 0 || reply.Number > 700 {
		return fmt.Errorf("the handler has %d ms of 700", reply.Number)
	}
	return nil
}

func failing(text string, code int32) error {
	err := call("Interop.Fail", &Item{Text: text, Number: int64(code)}, new(Item))
	return expectError(err, "interop.fail", code, text)
}

func errorTextPercent() error {
	const percent = "100% sure, 5%d of %s"
	if err := failing(percent, 409); err != nil {
		return err
	}
	return failingPlainly(percent)
}

func failingPlainly(text string) error {
	err := call("Interop.Fail", &Item{Text: text}, new(Item))
	if err == nil || !strings.Contains(err.Error(), text) {
		return fmt.Errorf("not the text: %v", err)
	}
	return nil
}

func sentMetadata(sent map[string]string) (map[string]string, error) {
	reply, found := new(Item), map[string]string{}
	ctx := metadata.NewContext(context.Background(), metadata.Metadata(sent))
	if err := callIn(ctx, "Interop.Metadata", new(Item), reply); err != nil {
		return nil, err
	}
	return found, json.Unmarshal([]byte(reply.Text), &found)
}

func customMetadata() error {
	sent := map[string]string{
		"X-Interop-Ascii": "plain", "X-Interop-Utf8": "naïve ☺ 😈", "X-Interop-Empty": "", "X-Interop-Long": strings.Repeat("x", 8192),
	}
	found, err := sentMetadata(sent)
	if err != nil {
		return err
	}
	for key, value := range sent {
		got, ok := found[key]
		if !ok {
			return fmt.Errorf("%s did not arrive", key)
		}
		if err := expect(key, got, value); err != nil {
			return err
		}
	}
	return nil
}

func metadataCaseFolding() error {
	found, err := sentMetadata(map[string]string{"x-interop-CASE": "folded"})
	if err != nil {
		return err
	}
	return expect("X-Interop-Case", found["X-Interop-Case"], "folded")
}

// unknown calls what is not there; the answer has to be an error, at once.
func unknown(service, endpoint, named string) error {
	started := time.Now()
	err := caller.Call(context.Background(), caller.NewRequest(service, endpoint, new(Item)), new(Item), callOptions()...)
	if err == nil || !strings.Contains(err.Error(), named) {
		return fmt.Errorf("not an error that names %s: %v", named, err)
	}
	if took := time.Since(started); took > 2*time.Second {
		return fmt.Errorf("took %v", took)
	}
	return nil
}

func unknownService() error {
	if err := unknown(*name, "Nobody.Hello", "Nobody"); err != nil {
		return err
	}
	if *target != "" {
		return nil
	}
	return unknown("interop.nobody", "Interop.Echo", "interop.nobody")
}

func unsupportedContentType() error {
	started := time.Now()
	request := caller.NewRequest(*name, "Interop.Echo", new(Item), client.WithContentType("application/x-interop"))
	err := caller.Call(context.Background(), request, new(Item), callOptions()...)
	if err == nil || !strings.Contains(strings.ToLower(err.Error()), "unsupported content") {
		return fmt.Errorf("not an error that says so: %v", err)
	}
	if took := time.Since(started); took > 2*time.Second {
		return fmt.Errorf("took %v", took)
	}
	return nil
}

func rawBytes() error {
	sent, got := []byte("\x00\xffraw\n"), []byte{}
	request := caller.NewRequest(*name, "Interop.Raw", &sent, client.WithContentType("application/octet-stream"))
	if err := caller.Call(context.Background(), request, &got, callOptions()...); err != nil {
		return err
	}
	return expect("bytes", string(got), string(sent))
}

func plainStruct() error {
	reply := new(Note)
	if err := call("Plain.Echo", &Note{Text: "plain"}, reply); err != nil {
		return err
	}
	return expect("reply", reply.Text, "plain")
}

func debugHealth() error {
	reply := new(Health)
	if err := call("Debug.Health", new(Health), reply); err != nil {
		return err
	}
	return expect("status", reply.Status, "ok")
}

// soak makes so many calls, eight at a time.
func soak(through client.Client, count int) error {
	return together(8, func(worker int) error {
		for number := worker; number < count; number += 8 {
			if err := echo(through, fmt.Sprintf("call %d", number)); err != nil {
				return err
			}
		}
		return nil
	})
}

func channelSoak() error {
	for done := 0; done < *calls; done += 100 {
		through := newClient()
		// A look-up of Go's ends after 100 ms; on a busy machine the answer may come later.
		if err := eventually(3, func() error { return echo(through, "first") }); err != nil {
			return err
		}
		if err := soak(through, 99); err != nil {
			return err
		}
	}
	return nil
}
