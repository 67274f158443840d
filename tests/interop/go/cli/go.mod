module micro.interop/cli

go 1.16

require (
	github.com/coreos/pkg v0.0.0-20240122114842-bbd7aa9bf6fb // indirect
	github.com/micro/micro v1.18.0
)

replace github.com/micro/protoc-gen-micro => ../stubs/nothing

replace github.com/lucas-clemente/quic-go => ../stubs/quic

replace google.golang.org/grpc => google.golang.org/grpc v1.26.0

replace github.com/coreos/bbolt => go.etcd.io/bbolt v1.3.3
