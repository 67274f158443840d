"""Who a caller is, by token or certificate, and whether it may ask for what it asks for."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any

from micro_core import Attempt, ConfigError, Context, Forbidden, Unauthorized, hookimpl
from micro_core.middleware import AttemptNext, CallMiddleware, Guard

__all__ = ["Auth", "digest"]

ANYBODY = "*"
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_TOKEN = re.compile(r"[!-~]+")


def digest(token: str) -> str:
    """Return the SHA-256 of a token, in hex: what a service has to know of it."""
    return hashlib.sha256(token.encode()).hexdigest()


class Auth:
    """Checks who calls and says who we are; an extension that is registered in code.

    ``tokens`` are the callers that are known: name and `digest` of its token. The names in a verified certificate
    (mutual TLS) are names as well. ``allow`` says for an endpoint (``Greeter.Hello``), all of a type (``Greeter.*``), a
    topic, or everything (``*``) which names may ask; ``*`` among them is anybody. The most exact rule counts alone, and
    what no rule is for is forbidden; without rules whoever has a name may ask for everything. The ``*`` of the rule for
    everything does not open ``Debug.*``: that needs a rule of its own. ``token`` is sent with
    our own calls and messages. Raises `ConfigError`.
    """

    def __init__(
        self,
        *,
        tokens: Mapping[str, str] | None = None,
        allow: Mapping[str, Sequence[str]] | None = None,
        token: str = "",
    ) -> None:
        self._tokens = {name: _digest_of(name, text) for name, text in (tokens or {}).items()}
        self._allow = None if allow is None else {rule: _names_of(rule, names) for rule, names in allow.items()}
        if token and not _TOKEN.fullmatch(token):
            raise ConfigError("the token to send holds characters that no header may hold")
        self._token = token

    @hookimpl
    def guard(self) -> Guard:
        """Return `check`."""
        return self.check

    @hookimpl
    def call_middleware(self) -> CallMiddleware:
        """Return `send`."""
        return self.send

    @hookimpl
    def credentials(self) -> Mapping[str, str]:
        """Return the header that says who we are; none without a token."""
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def check(self, context: Context) -> None:
        """Raise `Unauthorized` for who has no name where one is needed, `Forbidden` for a name that may not."""
        names = {*context.peer, *self._names_by_token(context)}
        allowed = self._allowed(context.endpoint)
        if allowed is not None and ANYBODY in allowed:
            return
        what = repr(context.endpoint[:200]) if context.endpoint else "what names no endpoint"
        if not names:
            raise Unauthorized(f"{what} is for known callers: present a token, or a certificate of yours")
        if allowed is not None and not names & allowed:
            raise Forbidden(f"{', '.join(sorted(names))} may not ask for {what}")

    async def send(self, attempt: Attempt, attempt_next: AttemptNext) -> Any:
        """Add our token to an attempt of a call, unless the call carries one."""
        if self._token:
            attempt.metadata.setdefault("Authorization", f"Bearer {self._token}")
        return await attempt_next(attempt)

    def _names_by_token(self, context: Context) -> tuple[str, ...]:
        presented = context.headers.get(b"Authorization")
        if presented is None:
            return ()
        scheme, _, token = presented.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthorized("Authorization is of a kind that is not taken here; send 'Bearer' and a token")
        # Every token is compared, each in constant time, so that how long it takes tells nothing.
        presented_digest = hashlib.sha256(token.strip()).digest()
        found = [name for name, known in self._tokens.items() if hmac.compare_digest(known, presented_digest)]
        if not found:
            raise Unauthorized("the token is not known here")
        return tuple(found)

    def _allowed(self, endpoint: str) -> frozenset[str] | None:
        """Return the names that the rule for an endpoint allows, or None where there are no rules."""
        if self._allow is None:
            return None
        for rule in (endpoint, f"{endpoint.partition('.')[0]}.*", "*"):
            if rule in self._allow:
                # What a service tells of itself is for nobody who is not named, unless a rule for it says so.
                return self._allow[rule] - {ANYBODY} if rule == "*" and _is_debug(endpoint) else self._allow[rule]
        return frozenset()

    def __repr__(self) -> str:
        rules = "no rules" if self._allow is None else f"{len(self._allow)} rules"
        return f"<Auth {len(self._tokens)} tokens, {rules}, sends {'a' if self._token else 'no'} token>"


def _is_debug(endpoint: str) -> bool:
    return endpoint.partition(".")[0] == "Debug"


def _digest_of(name: str, text: object) -> bytes:
    found = _DIGEST.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    if found is None:
        raise ConfigError(f"the token of {name!r} is not given as its SHA-256; write what sha256sum prints of it")
    return bytes.fromhex(found[1])


def _names_of(rule: str, names: object) -> frozenset[str]:
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"allow {rule!r} is not valid; write a list of names, or ['*'] for anybody")
    return frozenset(names)
