"""Pluggable microservices for Python: typed services that find, call, stream and publish to each other."""
