"""Bytes in, bytes out: sockets, TLS and event loops, without a word of HTTP."""
