// A greeter on grpc-go, with the messages of its own helloworld example. Takes the arguments of `python -m peers`:
//
//	grpc serve | grpc call ADDRESS PID SECONDS CALLERS:CODEC:SIZE…
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/examples/helloworld/helloworld"
)

const warmUp = 0.4

type greeter struct {
	helloworld.UnimplementedGreeterServer
}

func (greeter) SayHello(_ context.Context, request *helloworld.HelloRequest) (*helloworld.HelloReply, error) {
	return &helloworld.HelloReply{Message: request.GetName()}, nil
}

func main() {
	if os.Args[1] == "serve" {
		serve()
		return
	}
	address, pid := os.Args[2], os.Args[3]
	seconds, err := strconv.ParseFloat(os.Args[4], 64)
	check(err)
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	check(err)
	client := helloworld.NewGreeterClient(connection)
	for _, work := range os.Args[5:] {
		var callers, size int
		fields := strings.Split(work, ":")
		callers, err = strconv.Atoi(fields[0])
		check(err)
		size, err = strconv.Atoi(fields[2])
		check(err)
		request := &helloworld.HelloRequest{Name: strings.Repeat("x", size-len(`{"name":""}`))}
		repeat(client, request, callers, seconds*warmUp)
		line, err := json.Marshal(measured(client, request, callers, seconds, pid))
		check(err)
		fmt.Println(string(line))
	}
}

func serve() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	server := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	helloworld.RegisterGreeterServer(server, greeter{})
	fmt.Println("ready", listener.Addr())
	check(server.Serve(listener))
}

func measured(client helloworld.GreeterClient, request *helloworld.HelloRequest, callers int, seconds float64, pid string) map[string]float64 {
	started, here, there := time.Now(), ownSeconds(), processorSeconds(pid)
	latencies := repeat(client, request, callers, seconds)
	elapsed := time.Since(started).Seconds()
	here, there = ownSeconds()-here, processorSeconds(pid)-there
	slices.Sort(latencies)
	calls := len(latencies)
	return map[string]float64{
		"rate":       float64(calls) / elapsed,
		"p50":        latencies[calls/2].Seconds(),
		"p99":        latencies[min(calls-1, calls*99/100)].Seconds(),
		"client_cpu": here / float64(calls),
		"server_cpu": there / float64(calls),
	}
}

func repeat(client helloworld.GreeterClient, request *helloworld.HelloRequest, callers int, seconds float64) []time.Duration {
	all := make([][]time.Duration, callers)
	var waiting sync.WaitGroup
	for caller := range callers {
		waiting.Go(func() {
			end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
			for before := time.Now(); before.Before(end); before = time.Now() {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				_, err := client.SayHello(ctx, request)
				cancel()
				check(err)
				all[caller] = append(all[caller], time.Since(before))
			}
		})
	}
	waiting.Wait()
	return slices.Concat(all...)
}

// ownSeconds returns the processor time that this process has had.
func ownSeconds() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

// processorSeconds returns the processor time of another process: fields 14 and 15 of its stat, in hundredths.
func processorSeconds(pid string) float64 {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	check(err)
	fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
	user, err := strconv.ParseFloat(fields[11], 64)
	check(err)
	system, err := strconv.ParseFloat(fields[12], 64)
	check(err)
	return (user + system) / 100
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
