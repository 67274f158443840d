package main

import (
	"os"
	"path/filepath"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// The folder with the run's certificates, the same for all peers; empty where clear text is spoken.
var certificates = os.Getenv("BENCHMARKED_CERTIFICATES")

func serverCredentials() credentials.TransportCredentials {
	if certificates == "" {
		return insecure.NewCredentials()
	}
	secured, err := credentials.NewServerTLSFromFile(filepath.Join(certificates, "greeter.pem"), filepath.Join(certificates, "greeter-key.pem"))
	check(err)
	return secured
}

func clientCredentials() credentials.TransportCredentials {
	if certificates == "" {
		return insecure.NewCredentials()
	}
	secured, err := credentials.NewClientTLSFromFile(filepath.Join(certificates, "ca.pem"), "")
	check(err)
	return secured
}
