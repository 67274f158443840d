"""What the benchmarks run as processes of their own: the same greeter on this framework, grpcio and aiohttp."""
