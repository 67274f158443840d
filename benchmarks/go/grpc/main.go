// A greeter on grpc-go, with the messages and the service of its own interoperability tests. Takes the arguments of
// `python -m peers`, and speaks TLS where BENCHMARKED_CERTIFICATES names a folder with certificates:
//
//	grpc serve
//	grpc call ADDRESS PID SECONDS CALLERS:CODEC:SIZE…
//	grpc stream ADDRESS PID SECONDS WINDOW…
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"
)

const (
	warmUp      = 0.4
	largest     = 64 << 20
	messageSize = 64 // of a stream
)

func main() {
	if os.Args[1] == "serve" {
		serve()
		return
	}
	work := map[string]func(grpc_testing.TestServiceClient, string) (repeater, func()){"call": unary, "stream": stream}[os.Args[1]]
	address, pid := os.Args[2], os.Args[3]
	seconds, err := strconv.ParseFloat(os.Args[4], 64)
	check(err)
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(clientCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largest)))
	check(err)
	client := grpc_testing.NewTestServiceClient(connection)
	for _, each := range os.Args[5:] {
		repeat, end := work(client, each)
		repeat(time.Duration(seconds * warmUp * float64(time.Second)))
		line, err := json.Marshal(measured(repeat, time.Duration(seconds*float64(time.Second)), pid))
		check(err)
		fmt.Println(string(line))
		end()
	}
}

func serve() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	server := grpc.NewServer(grpc.Creds(serverCredentials()), grpc.MaxRecvMsgSize(largest))
	grpc_testing.RegisterTestServiceServer(server, greeter{})
	fmt.Println("ready", listener.Addr())
	check(server.Serve(listener))
}

func payload(size int) *grpc_testing.Payload {
	return &grpc_testing.Payload{Body: []byte(strings.Repeat("x", size))}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
