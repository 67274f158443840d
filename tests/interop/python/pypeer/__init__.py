"""The Python counterpart of go/peer: the same endpoints and cases, on the public API alone."""
