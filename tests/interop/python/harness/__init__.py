"""What the interop tests share: building the Go programs, running peers in networks of their own, the matrix."""
