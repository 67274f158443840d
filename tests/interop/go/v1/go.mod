module micro.interop/v1

go 1.16

require (
	github.com/coreos/pkg v0.0.0-20240122114842-bbd7aa9bf6fb // indirect
	github.com/micro/go-micro v1.18.0
)

replace github.com/micro/protoc-gen-micro => ../stubs/nothing

replace github.com/lucas-clemente/quic-go => ../stubs/quic
