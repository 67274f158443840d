"""HTTP/2 as both ends of a connection need it: framing, header fields, floods."""
