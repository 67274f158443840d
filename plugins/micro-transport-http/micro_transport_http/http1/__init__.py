"""HTTP/1.1 as parsers and writers: bytes in, events out; nothing here waits."""
