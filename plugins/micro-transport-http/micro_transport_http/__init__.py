"""RPC over HTTP/1.1 for micro."""
