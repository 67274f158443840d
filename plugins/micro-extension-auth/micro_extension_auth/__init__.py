"""Who may call what: bearer tokens, and allow-lists by name and endpoint."""

from micro_extension_auth.auth import Auth, digest

__all__ = ["Auth", "digest"]
