// A peer of the interop tests: one Go Micro program with named cases, as a server or as a client.
// Written for go-micro.dev/v5; the build replaces that path by the one of the line that is wanted.
package main

import (
	"flag"
	"log"

	"go-micro.dev/v5/broker"
	"go-micro.dev/v5/transport"
)

var (
	role        = flag.String("role", "server", "server or client")
	name        = flag.String("name", "interop", "the server's name")
	address     = flag.String("address", "127.0.0.1:0", "where the server listens, and the broker at the same host")
	topics      = flag.String("topics", "", "the prefix of the topics that are subscribed or published to; default: the name")
	caseNames   = flag.String("case", "", "cases of the client, separated by commas")
	target      = flag.String("target", "", "the address to call instead of asking the registry")
	member      = flag.String("member", "", "a second server, in the same queue group")
	contentType = flag.String("content-type", "application/json", "how values are written")
	calls       = flag.Int("calls", 0, "how many calls a soak makes")
	secure      = flag.Bool("secure", false, "speak TLS, with what Go Micro does on its own")
	nodes       = flag.Int("nodes", 1, "how many nodes the server registers")
)

func main() {
	flag.Parse()
	if *topics == "" {
		*topics = *name
	}
	if err := broker.DefaultBroker.Init(broker.Addrs(hostOf(*address) + ":0")); err != nil {
		log.Fatal(err)
	}
	if *secure {
		if err := transport.DefaultTransport.Init(transport.Secure(true)); err != nil {
			log.Fatal(err)
		}
	}
	if *role == "client" {
		runCases()
		return
	}
	serve()
}
