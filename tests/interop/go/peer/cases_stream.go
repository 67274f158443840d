package main

import (
	"fmt"
	"io"
	"time"

	"go-micro.dev/v5/client"
)

func init() {
	for name, run := range map[string]testCase{
		"server_stream":               func() error { return serverStream(5, "50") },
		"server_stream_fast":          func() error { return serverStream(64, "0") },
		"client_stream":               clientStream,
		"ping_pong":                   pingPong,
		"full_duplex":                 fullDuplex,
		"empty_stream":                emptyStream,
		"cancel_after_first_response": cancelAfterFirstResponse,
	} {
		cases[name] = run
	}
}

// opened runs a case on an open stream and closes it.
func opened(endpoint string, run func(client.Stream) error) error {
	stream, err := open(endpoint, new(Item))
	if err != nil {
		return err
	}
	defer stream.Close()
	return run(stream)
}

func serverStream(count int64, pause string) error {
	return opened("Interop.Count", func(stream client.Stream) error {
		if err := stream.Send(&Item{Number: count, Text: pause}); err != nil {
			return err
		}
		for number := int64(0); number < count; number++ {
			item := new(Item)
			if err := stream.Recv(item); err != nil {
				return fmt.Errorf("item %d: %v", number, err)
			}
			wanted := &Item{Text: fmt.Sprintf("item %d", number), Number: number}
			if err := expect("item", item, wanted); err != nil {
				return err
			}
		}
		return atEnd(stream)
	})
}

func atEnd(stream client.Stream) error {
	if err := stream.Recv(new(Item)); err != io.EOF {
		return fmt.Errorf("not the end: %v", err)
	}
	return nil
}

func clientStream() error {
	return opened("Interop.Collect", func(stream client.Stream) error {
		for number := int64(1); number <= 10; number++ {
			if err := stream.Send(&Item{Number: number}); err != nil {
				return err
			}
		}
		// A Go client cannot end its side alone (docs/wire.md §3.4), so a message says it.
		if err := stream.Send(&Item{Text: "end"}); err != nil {
			return err
		}
		total := new(Item)
		if err := stream.Recv(total); err != nil {
			return err
		}
		return expect("total", total.Number, 55)
	})
}

func pingPong() error {
	return opened("Interop.Chat", func(stream client.Stream) error {
		for number := int64(0); number < 10; number++ {
			item := &Item{Text: "ping", Number: number}
			if err := stream.Send(item); err != nil {
				return err
			}
			answer := new(Item)
			if err := stream.Recv(answer); err != nil {
				return err
			}
			if err := expect("answer", answer, &Item{Text: "ping", Number: number + 1}); err != nil {
				return err
			}
		}
		return nil
	})
}

// fullDuplex has both sides send while they wait for the other's next message.
func fullDuplex() error {
	stream, err := open("Interop.Duplex", new(Item))
	if err != nil {
		return err
	}
	if err := stream.Send(&Item{Number: 5}); err != nil {
		return err
	}
	items := make(chan *Item, 6)
	go func() {
		for item := new(Item); stream.Recv(item) == nil; item = new(Item) {
			items <- item
		}
	}()
	for number := int64(0); number < 5; number++ {
		if err := nextIs(items, &Item{Number: number}); err != nil {
			return err
		}
	}
	time.Sleep(20 * time.Millisecond)
	go stream.Send(&Item{Text: "end"})
	if err := nextIs(items, &Item{Text: "end"}); err != nil {
		return err
	}
	return stream.Close()
}

func nextIs(items chan *Item, wanted *Item) error {
	select {
	case item := <-items:
		return expect("item", item, wanted)
	case <-time.After(3 * time.Second):
		return fmt.Errorf("no item for 3 s, instead of %v", wanted)
	}
}

func emptyStream() error {
	return opened("Interop.Nothing", atEnd)
}

func cancelAfterFirstResponse() error {
	before := new(Item)
	if err := call("Interop.Left", new(Item), before); err != nil {
		return err
	}
	err := opened("Interop.Hold", func(stream client.Stream) error {
		if err := stream.Send(&Item{Text: "hold"}); err != nil {
			return err
		}
		return stream.Recv(new(Item))
	})
	if err != nil {
		return err
	}
	return eventually(5, func() error {
		now := new(Item)
		if err := call("Interop.Left", new(Item), now); err != nil {
			return err
		}
		if now.Number <= before.Number {
			return fmt.Errorf("the handler goes on: %d have left after %d", now.Number, before.Number)
		}
		time.Sleep(10 * time.Millisecond)
		return nil
	})
}
