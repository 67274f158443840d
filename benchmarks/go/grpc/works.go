package main

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/interop/grpc_testing"
)

// A repeater does a work for that long and returns how long each call or echo took.
type repeater func(time.Duration) []time.Duration

// unary makes calls, written CALLERS:CODEC:SIZE.
func unary(client grpc_testing.TestServiceClient, work string) (repeater, func()) {
	fields := strings.Split(work, ":")
	callers, err := strconv.Atoi(fields[0])
	check(err)
	size, err := strconv.Atoi(fields[2])
	check(err)
	request := &grpc_testing.SimpleRequest{Payload: payload(size)}
	call := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := client.UnaryCall(ctx, request)
		check(err)
	}
	return func(lasting time.Duration) []time.Duration {
		all := make([][]time.Duration, callers)
		var waiting sync.WaitGroup
		for caller := range callers {
			waiting.Go(func() { all[caller] = timed(call, lasting) })
		}
		waiting.Wait()
		return slices.Concat(all...)
	}, func() {}
}

// stream keeps a window of messages under way: one goroutine sends a message for each that it receives, so that a window
// of one is ping-pong without a hand-over.
func stream(client grpc_testing.TestServiceClient, work string) (repeater, func()) {
	window, err := strconv.Atoi(work)
	check(err)
	ctx, cancel := context.WithCancel(context.Background())
	exchange, err := client.FullDuplexCall(ctx)
	check(err)
	request := &grpc_testing.StreamingOutputCallRequest{Payload: payload(messageSize)}
	for range window {
		check(exchange.Send(request))
	}
	echo := func() {
		_, err := exchange.Recv()
		check(err)
		check(exchange.Send(request))
	}
	return func(lasting time.Duration) []time.Duration { return timed(echo, lasting) }, cancel
}

func timed(one func(), lasting time.Duration) []time.Duration {
	var latencies []time.Duration
	end := time.Now().Add(lasting)
	for before := time.Now(); before.Before(end); {
		one()
		now := time.Now()
		latencies = append(latencies, now.Sub(before))
		before = now
	}
	return latencies
}
