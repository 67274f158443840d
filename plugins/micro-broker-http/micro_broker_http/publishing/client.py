"""What posts: httpx, with HTTP/2 where the subscriber speaks TLS, and in clear text only where that may be."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import httpx

from micro_core import ConfigError, Tls
from micro_core.tls import explain

__all__ = ["PostClient", "why"]


class PostClient(httpx.AsyncClient):
    """A client that trusts whom ``context``, made of ``tls``, does; who has TLS settings posts with TLS, always."""

    def __init__(
        self, tls: Tls, context: ssl.SSLContext, credentials: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(
            trust_env=False,
            http2=True,
            verify=context,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=60.0),
            headers={"User-Agent": "micro", "Accept": "*/*", "Accept-Encoding": "identity", **credentials},
        )
        self._tls = tls

    @property
    def is_nameless(self) -> bool:
        """Whether it speaks TLS without a certificate of its own."""
        return self._tls.calls and not (self._tls.cert or self._tls.client_context)

    def build_request(self, method: str, url: Any, **arguments: Any) -> httpx.Request:
        """Return a request. Raises `httpx.UnsupportedProtocol` where it would be clear text and may not be."""
        request = super().build_request(method, url, **arguments)
        if request.url.scheme == "http":
            if self._tls.calls:
                return super().build_request(method, request.url.copy_with(scheme="https"), **arguments)
            try:
                self._tls.check_clear_text(request.url.netloc.decode("ascii"), "messages to")
            except ConfigError as error:
                raise httpx.UnsupportedProtocol(str(error)) from error
        return request


def why(error: BaseException, client: httpx.AsyncClient) -> str:
    """Return what went wrong with a POST of ``client``, in words where TLS is the cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return explain(cause)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.WriteError | httpx.ReadError) and isinstance(client, PostClient) and client.is_nameless:
        # A listener that asks for a certificate says so after the handshake, and closes: which comes first varies.
        return f"{error!r}; where it asks for a certificate of ours: set tls_cert and tls_key"
    return repr(error)
