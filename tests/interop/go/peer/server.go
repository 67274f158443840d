package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	micro "go-micro.dev/v5"
	"go-micro.dev/v5/errors"
	"go-micro.dev/v5/metadata"
	"go-micro.dev/v5/registry"
	"go-micro.dev/v5/server"
)

// Interop has one endpoint for each thing that is tried.
type Interop struct {
	left  int64
	mutex sync.Mutex
	seen  map[string]map[int64]int
}

// Echo answers what it got.
func (*Interop) Echo(_ context.Context, request *Item, reply *Item) error {
	reply.Text, reply.Body, reply.Number = request.Text, request.Body, request.Number
	return nil
}

// Large answers as many bytes as were asked for, and how many it got.
func (*Interop) Large(_ context.Context, request *Item, reply *Item) error {
	reply.Text, reply.Body = strconv.Itoa(len(request.Body)), make([]byte, request.Number)
	return nil
}

// Sleep answers after so many milliseconds, whatever its deadline.
func (*Interop) Sleep(_ context.Context, request *Item, _ *Item) error {
	time.Sleep(time.Duration(request.Number) * time.Millisecond)
	return nil
}

// Deadline answers how many milliseconds are left.
func (*Interop) Deadline(ctx context.Context, _ *Item, reply *Item) error {
	if deadline, ok := ctx.Deadline(); ok {
		reply.Number = time.Until(deadline).Milliseconds()
	}
	return nil
}

// Fail fails with the text and code that it is given, and without a code with a plain text.
func (*Interop) Fail(_ context.Context, request *Item, _ *Item) error {
	if request.Number == 0 {
		return fmt.Errorf("%s", request.Text)
	}
	return errors.New("interop.fail", request.Text, int32(request.Number))
}

// Metadata answers what came with the call, as JSON.
func (*Interop) Metadata(ctx context.Context, _ *Item, reply *Item) error {
	found, _ := metadata.FromContext(ctx)
	text, err := json.Marshal(found)
	reply.Text = string(text)
	return err
}

// Raw answers the bytes that it got.
func (*Interop) Raw(_ context.Context, request *[]byte, reply *[]byte) error {
	*reply = *request
	return nil
}

// Count sends so many items, with a pause of as many milliseconds as the text says.
func (*Interop) Count(_ context.Context, stream server.Stream) error {
	request := new(Item)
	if err := stream.Recv(request); err != nil {
		return err
	}
	pause, _ := strconv.Atoi(request.Text)
	for number := int64(0); number < request.Number; number++ {
		if err := stream.Send(&Item{Text: fmt.Sprintf("item %d", number), Number: number}); err != nil {
			return err
		}
		time.Sleep(time.Duration(pause) * time.Millisecond)
	}
	return nil
}

// Collect adds up what it gets until the client has ended or says so.
func (*Interop) Collect(_ context.Context, stream server.Stream) error {
	total := new(Item)
	for {
		item := new(Item)
		if err := stream.Recv(item); err != nil || item.Text == "end" {
			break
		}
		total.Number += item.Number
	}
	return stream.Send(total)
}

// Chat answers every item with the next number.
func (*Interop) Chat(_ context.Context, stream server.Stream) error {
	for {
		item := new(Item)
		if err := stream.Recv(item); err != nil {
			return nil
		}
		item.Number++
		if err := stream.Send(item); err != nil {
			return err
		}
	}
}

// Duplex sends so many items on its own, while it waits for one more, which it answers.
func (*Interop) Duplex(_ context.Context, stream server.Stream) error {
	first, last := new(Item), new(Item)
	if err := stream.Recv(first); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for number := int64(0); number < first.Number; number++ {
			time.Sleep(50 * time.Millisecond)      // a faster stream is overwritten (docs/wire.md §3.4)
			_ = stream.Send(&Item{Number: number}) // a server's Send tells no failure (docs/wire.md §9.2)
		}
	}()
	if err := stream.Recv(last); err != nil {
		return err
	}
	<-done
	return stream.Send(last)
}

// Nothing is a stream without a message.
func (*Interop) Nothing(context.Context, server.Stream) error { return nil }

// Hold answers one item and then waits until the client has left.
func (h *Interop) Hold(_ context.Context, stream server.Stream) error {
	item := new(Item)
	if err := stream.Recv(item); err != nil {
		return err
	}
	if err := stream.Send(item); err != nil {
		return err
	}
	for stream.Recv(item) == nil {
	}
	atomic.AddInt64(&h.left, 1)
	return nil
}

// Left answers how many clients have left Hold.
func (h *Interop) Left(_ context.Context, _ *Item, reply *Item) error {
	reply.Number = atomic.LoadInt64(&h.left)
	return nil
}

// Seen answers how many messages with a text were handled, and how many different ones.
func (h *Interop) Seen(_ context.Context, request *Item, reply *Item) error {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for _, times := range h.seen[request.Text] {
		reply.Number += int64(times)
	}
	reply.Text = strconv.Itoa(len(h.seen[request.Text]))
	return nil
}

func (h *Interop) onEvent(_ context.Context, item *Item) error {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.seen[item.Text] == nil {
		h.seen[item.Text] = map[int64]int{}
	}
	h.seen[item.Text][item.Number]++
	return nil
}

// Plain has a handler without generated code.
type Plain struct{}

// Echo answers what it got.
func (*Plain) Echo(_ context.Context, request *Note, reply *Note) error {
	*reply = *request
	return nil
}

func serve() {
	handler := &Interop{seen: map[string]map[int64]int{}}
	var service micro.Service
	service = micro.NewService(
		micro.Name(*name),
		micro.Version("1.0"),
		micro.Address(*address),
		micro.AfterStart(func() error {
			at := service.Server().Options().Address
			for number := 1; number < *nodes; number++ {
				if err := announce(fmt.Sprintf("%s-%d", *name, number), at); err != nil {
					return err
				}
			}
			fmt.Println("ready", at)
			return nil
		}),
	)
	check(micro.RegisterHandler(service.Server(), handler))
	check(micro.RegisterHandler(service.Server(), new(Plain)))
	check(micro.RegisterSubscriber(*topics+".all", service.Server(), handler.onEvent))
	check(micro.RegisterSubscriber(*topics+".queue", service.Server(), handler.onEvent, server.SubscriberQueue("workers")))
	check(service.Run())
}

// announce registers one more node that answers at this server's address.
func announce(id, at string) error {
	return registry.Register(&registry.Service{
		Name: *name, Version: "1.0",
		Nodes: []*registry.Node{{Id: id, Address: at, Metadata: map[string]string{"protocol": "mucp"}}},
	})
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	check(err)
	return host
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
