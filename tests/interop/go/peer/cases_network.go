package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"go-micro.dev/v5/client"
	"go-micro.dev/v5/metadata"
	"go-micro.dev/v5/registry"
)

func init() {
	for name, run := range map[string]testCase{
		"discover_and_list":    discoverAndList,
		"watch_add_and_remove": watchAddAndRemove,
		"retry_on_dead_node":   retryOnDeadNode,
		"publish_broadcast":    func() error { return published("all", int64(1+len(others()))) },
		"publish_queue_group":  func() error { return published("queue", 1) },
		"publish_via_rpc_port": publishViaRPCPort,
		"publish_burst":        publishBurst,
		"list_nodes":           listNodes,
		"idle_pool":            idlePool,
		"hang":                 func() error { return call("Interop.Sleep", &Item{Number: 30000}, new(Item)) },
	} {
		cases[name] = run
	}
}

// discoverAndList looks for 3 s: one look of Go's ends after 100 ms; on a busy machine the answer may come later.
func discoverAndList() error {
	return eventually(3, listAndRead)
}

func listAndRead() error {
	services, err := registry.ListServices()
	if err != nil {
		return err
	}
	listed := false
	for _, service := range services {
		listed = listed || service.Name == *name
	}
	if !listed {
		return fmt.Errorf("%s is not among the %d services listed", *name, len(services))
	}
	nodes, err := knownNodes()
	if err != nil {
		return err
	}
	for _, service := range nodes {
		if err := expect("protocol", service.Nodes[0].Metadata["protocol"], "mucp"); err != nil {
			return err
		}
		for _, endpoint := range service.Endpoints {
			if endpoint.Name == "Interop.Echo" {
				return expect("request", endpoint.Request.Name, "Item")
			}
		}
	}
	return fmt.Errorf("%d nodes, and none has the endpoint Interop.Echo", len(nodes))
}

// watchAddAndRemove sees a service come and go that the test starts and stops meanwhile.
func watchAddAndRemove() error {
	watcher, err := registry.Watch(registry.WatchService(*name))
	if err != nil {
		return err
	}
	defer watcher.Stop()
	waitForWord("watching")
	for _, wanted := range []string{"create", "delete"} {
		for {
			result, err := watcher.Next()
			if err != nil {
				return err
			}
			if result.Action == wanted {
				break
			}
		}
		waitForWord(wanted)
	}
	return nil
}

// retryOnDeadNode calls while the test kills one of two nodes.
func retryOnDeadNode() error {
	for number := 0; number < 10; number++ {
		if err := echo(caller, "alive"); err != nil {
			return err
		}
	}
	waitForWord("kill")
	for number := 0; number < 60; number++ {
		if err := echo(caller, "dead"); err != nil {
			return fmt.Errorf("call %d of 60: %v", number, err)
		}
	}
	return nil
}

// published sends twenty messages to both members and asks how often each was handled.
func published(topic string, copies int64) error {
	key := fmt.Sprintf("%s %d %d", topic, os.Getpid(), time.Now().UnixNano())
	for number := int64(0); number < 20; number++ {
		message := caller.NewMessage(*topics+"."+topic, &Item{Text: key, Number: number})
		if err := caller.Publish(context.Background(), message); err != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond) // Go's broker loses bursts (docs/wire.md §4.2)
	}
	return eventually(3, func() error { return handled(key, 20*copies) })
}

func handled(key string, wanted int64) error {
	var total int64
	for _, server := range append([]string{*name}, others()...) {
		reply := new(Item)
		request := caller.NewRequest(server, "Interop.Seen", &Item{Text: key})
		if err := caller.Call(context.Background(), request, reply, callOptions()...); err != nil {
			return err
		}
		total += reply.Number
	}
	return expect("handled", total, wanted)
}

func others() []string {
	if *member == "" {
		return nil
	}
	return strings.Split(*member, ",")
}

func publishViaRPCPort() error {
	key := fmt.Sprintf("rpc %d", time.Now().UnixNano())
	ctx := metadata.NewContext(context.Background(), metadata.Metadata{"Micro-Topic": *topics + ".all"})
	for number := int64(0); number < 5; number++ {
		// An event is answered without a body, by Go as well, which a JSON client takes for an error.
		err := callIn(ctx, "Interop.Echo", &Item{Text: key, Number: number}, new(Item), client.WithRetries(0))
		if err != nil && !strings.Contains(err.Error(), `"detail":"EOF"`) {
			return err
		}
	}
	return eventually(2, func() error { return handled(key, 5) })
}

// publishBurst publishes without a gap, and says how many; the test counts what arrives.
func publishBurst() error {
	for number := 0; number < *calls; number++ {
		message := caller.NewMessage(*topics+".all", &Item{Text: "burst", Number: int64(number)})
		if err := caller.Publish(context.Background(), message); err != nil {
			return err
		}
	}
	time.Sleep(2 * time.Second)
	reply := new(Item)
	err := call("Interop.Seen", &Item{Text: "burst"}, reply)
	say(map[string]interface{}{"event": "arrived", "count": reply.Number})
	return err
}

// listNodes says which nodes the registry knows.
func listNodes() error {
	nodes, err := knownNodes()
	count := 0
	for _, service := range nodes {
		count += len(service.Nodes)
		break
	}
	addresses := []string{}
	for address := range nodes {
		addresses = append(addresses, address)
	}
	say(map[string]interface{}{"event": "nodes", "addresses": addresses, "count": count})
	if err == registry.ErrNotFound {
		return nil
	}
	return err
}

// idlePool fills the pool with ten connections, lets the test stop the service, and calls on.
func idlePool() error {
	sleep := func(int) error { return call("Interop.Sleep", &Item{Number: 200}, new(Item)) }
	if err := together(10, sleep); err != nil {
		return err
	}
	waitForWord("idle")
	for number := 0; number < 100; number++ {
		if err := echo(caller, "after"); err != nil {
			return fmt.Errorf("call %d of 100: %v", number, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}
