"""What the benchmarks run as processes of their own: one greeter, on this framework and on its peers."""
