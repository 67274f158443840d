"""What goes over the wire: DNS messages and the two dialects in them, without I/O."""
