// Package quic has the few names that Go Micro v1.18's QUIC transport compiles against. Nothing here opens a
// connection: the real library of that time panics at start on today's Go, and none of our programs speaks QUIC.
package quic

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

var errNone = errors.New("this is not a QUIC library")

// Config is what the transport fills in.
type Config struct {
	IdleTimeout time.Duration
	KeepAlive   bool
}

// Stream is a net.Conn in all that the transport uses.
type Stream interface{ net.Conn }

// Session is a connection.
type Session interface {
	AcceptStream(context.Context) (Stream, error)
	OpenStreamSync(context.Context) (Stream, error)
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
	Close() error
}

// Listener takes sessions.
type Listener interface {
	Accept(context.Context) (Session, error)
	Addr() net.Addr
	Close() error
}

// DialAddr fails.
func DialAddr(string, *tls.Config, *Config) (Session, error) { return nil, errNone }

// ListenAddr fails.
func ListenAddr(string, *tls.Config, *Config) (Listener, error) { return nil, errNone }
