"""RPC over HTTP/1.1 for micro."""

from .transport import HttpTransport

__all__ = ["HttpTransport"]
