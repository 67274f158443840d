module micro.interop/examples

go 1.16

require (
	github.com/micro/examples v0.2.0
	github.com/micro/go-micro v1.18.0
)

replace github.com/micro/protoc-gen-micro => ../stubs/nothing

replace github.com/lucas-clemente/quic-go => ../stubs/quic

replace github.com/asim/go-bson => ../stubs/bson

replace github.com/micro/go-plugins => github.com/micro/go-plugins v1.5.1

replace github.com/micro/micro => github.com/micro/micro v1.18.0
