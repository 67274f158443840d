"""The client and the server ``rpc``: Go Micro's calls, streams and events."""
