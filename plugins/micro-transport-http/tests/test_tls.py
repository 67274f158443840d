"""Calls under TLS: what is spoken, and for every way in which two ends may not fit, an error that says what to do."""

from __future__ import annotations

import hashlib
import inspect
import math
import shutil
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.tls import TLSStream

from micro_core import BadRequest, ConfigError, ConnectFailed, Executed, Limits, Node, Tls
from micro_core.tls import HANDSHAKE_SECONDS
from micro_transport_http import HttpTransport

pytestmark = pytest.mark.anyio

OURS = {"micro": "1", "protocol": "mucp"}


@pytest.fixture
def server_tls(authority: Any) -> Tls:
    cert, key = authority.issue("greeter")
    return Tls(cert=cert, key=key)


@pytest.fixture
def serving(open_transport: Any, echo: Any) -> Any:
    """Serve with settings; gives the listener's address and the requests that came."""

    @asynccontextmanager
    async def listen(tls: Tls | None, limits: Limits | None = None) -> AsyncIterator[tuple[str, list[Any]]]:
        requests: list[Any] = []

        def receive(request: Any) -> None:
            requests.append(request)
            echo(request)

        async with open_transport(tls=tls) as transport:
            async with transport.listen("127.0.0.1:0", receive, limits or Limits()) as listener:
                yield listener.address, requests

    return listen


@pytest.fixture
def call(open_transport: Any, head: Any) -> Any:
    """Make one call with settings."""

    async def send(address: str, tls: Tls | None, metadata: dict[str, str] = OURS, body: bytes = b"hello") -> Any:
        async with open_transport(tls=tls) as transport:
            node = Node(id="node-1", address=address, metadata=metadata)
            return await transport.connect(node).call(head, 1, {}, body, math.inf)

    return send


def fingerprint(path: str) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(Path(path).read_text())).hexdigest()


async def test_call_goes_through_where_the_authority_is_right(
    serving: Any, call: Any, authority: Any, server_tls: Tls
) -> None:
    async with serving(server_tls) as (address, _):
        assert (await call(address, Tls(ca=authority.file))).body == b"hello"


@pytest.mark.parametrize("metadata", [OURS, {"protocol": "mucp"}, {}])
@pytest.mark.parametrize("size", [5, 200_000])
async def test_every_kind_of_peer_is_called_under_tls(
    serving: Any, call: Any, authority: Any, server_tls: Tls, metadata: dict[str, str], size: int
) -> None:
    async with serving(server_tls) as (address, _):
        assert (await call(address, Tls(ca=authority.file), metadata, b"x" * size)).body == b"x" * size


async def test_metadata_say_secure(open_transport: Any, server_tls: Tls) -> None:
    assert open_transport(tls=server_tls).metadata == {"secure": "true"}
    assert open_transport().metadata == {}


async def test_a_secure_node_is_called_with_tls_by_who_has_no_settings(
    serving: Any, call: Any, server_tls: Tls
) -> None:
    async with serving(server_tls) as (address, requests):
        with pytest.raises(
            ConnectFailed, match="comes from an authority that is not trusted here: name that authority"
        ):
            await call(address, None, {**OURS, "secure": "true"})
    assert requests == []


async def test_mutual_tls_names_the_caller(serving: Any, call: Any, authority: Any, server_tls: Tls) -> None:
    cert, key = authority.issue("mailer", names=("mailer.example",))
    both = Tls(cert=server_tls.cert, key=server_tls.key, client_ca=authority.file)
    async with serving(both) as (address, requests):
        await call(address, Tls(cert=cert, key=key, ca=authority.file))
    assert requests[0].peer == ("mailer", "mailer.example")


async def test_a_caller_that_was_not_asked_has_no_name(
    serving: Any, call: Any, authority: Any, server_tls: Tls
) -> None:
    async with serving(server_tls) as (address, requests):
        await call(address, Tls(ca=authority.file))
    assert requests[0].peer == ()


class TestRefusals:
    """Each is a sentence of its own, and nothing is executed."""

    async def refusal(self, serving: Any, call: Any, server: Tls | None, client: Tls | None) -> str:
        async with serving(server) as (address, requests):
            with pytest.raises((ConnectFailed, BadRequest)) as raised:
                await call(address, client)
        assert raised.value.executed is Executed.NO
        assert requests == []
        return str(raised.value)

    async def test_wrong_authority(self, serving: Any, call: Any, new_authority: Any, server_tls: Tls) -> None:
        text = await self.refusal(serving, call, server_tls, Tls(ca=new_authority("other").file))
        assert "comes from an authority that is not trusted here: name that authority in tls_ca" in text

    async def test_expired(self, serving: Any, call: Any, authority: Any) -> None:
        cert, key = authority.issue("old", days=(-9, -1))
        text = await self.refusal(serving, call, Tls(cert=cert, key=key), Tls(ca=authority.file))
        assert "its certificate has expired" in text

    async def test_not_valid_yet(self, serving: Any, call: Any, authority: Any) -> None:
        cert, key = authority.issue("young", days=(1, 9))
        text = await self.refusal(serving, call, Tls(cert=cert, key=key), Tls(ca=authority.file))
        assert "its certificate is not valid yet: compare the clocks" in text

    async def test_wrong_name(self, serving: Any, call: Any, authority: Any) -> None:
        cert, key = authority.issue("elsewhere", names=("10.9.8.7",))
        text = await self.refusal(serving, call, Tls(cert=cert, key=key), Tls(ca=authority.file))
        assert "its certificate is for other addresses" in text
        text = await self.refusal(serving, call, Tls(cert=cert, key=key), Tls(ca=authority.file, server_name="x"))
        assert "its certificate is for other names" in text

    async def test_self_signed(self, serving: Any, call: Any, authority: Any) -> None:
        cert, key = authority.self_signed("alone")
        text = await self.refusal(serving, call, Tls(cert=cert, key=key), Tls(ca=authority.file))
        assert "its certificate is self-signed: name it in tls_ca, or pin it with tls_pin" in text

    async def test_not_the_pinned(self, serving: Any, call: Any, server_tls: Tls) -> None:
        text = await self.refusal(serving, call, server_tls, Tls(pin=("ab" * 32,)))
        assert f"its certificate's sha256 is {fingerprint(server_tls.cert)}, which is not pinned" in text

    async def test_no_client_certificate(self, serving: Any, call: Any, authority: Any, server_tls: Tls) -> None:
        both = Tls(cert=server_tls.cert, key=server_tls.key, client_ca=authority.file)
        text = await self.refusal(serving, call, both, Tls(ca=authority.file))
        assert "it asks for a certificate of ours: set tls_cert and tls_key" in text

    async def test_client_certificate_of_another_authority(
        self, serving: Any, call: Any, authority: Any, new_authority: Any, server_tls: Tls
    ) -> None:
        cert, key = new_authority("other").issue("mailer")
        both = Tls(cert=server_tls.cert, key=server_tls.key, client_ca=authority.file)
        text = await self.refusal(serving, call, both, Tls(cert=cert, key=key, ca=authority.file))
        assert "it does not trust the authority of our certificate" in text

    async def test_clear_text_to_a_tls_port(self, serving: Any, call: Any, server_tls: Tls) -> None:
        text = await self.refusal(serving, call, server_tls, None)
        assert "this port speaks TLS, and clear text came" in text

    async def test_tls_to_a_clear_text_port(self, serving: Any, call: Any, authority: Any) -> None:
        text = await self.refusal(serving, call, None, Tls(ca=authority.file))
        assert "it speaks clear text, where TLS is expected" in text

    @pytest.mark.parametrize("server_is_old", [True, False])
    async def test_tls_1_1(self, serving: Any, call: Any, authority: Any, server_tls: Tls, server_is_old: bool) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_is_old else ssl.PROTOCOL_TLS_CLIENT)
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        if server_is_old:
            old.load_cert_chain(server_tls.cert, server_tls.key)
            text = await self.refusal(serving, call, Tls(server_context=old), Tls(ca=authority.file))
        else:
            old.load_verify_locations(authority.file)
            text = await self.refusal(serving, call, server_tls, Tls(client_context=old))
        assert "1.2 is the least" in text or "older than 1.2" in text


async def test_a_self_signed_peer_is_called_by_its_pin(serving: Any, call: Any, authority: Any) -> None:
    cert, key = authority.self_signed("go")
    async with serving(Tls(cert=cert, key=key)) as (address, _):
        assert (await call(address, Tls(pin=(fingerprint(cert),)), {"protocol": "mucp"})).body == b"hello"


async def test_not_a_byte_of_a_request_reaches_who_is_not_pinned(call: Any, server_tls: Tls) -> None:
    context, ended = server_tls.for_server([]), anyio.Event()
    seen: list[Any] = []

    async def listen(stream: Any) -> None:
        try:
            async with stream:
                under_tls = await TLSStream.wrap(stream, server_side=True, ssl_context=context)
                seen.append(await under_tls.receive())
        except (ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
            seen.append(type(error))
        ended.set()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, listen)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        with pytest.raises(ConnectFailed, match="not pinned"):
            await call(f"127.0.0.1:{port}", Tls(pin=("ab" * 32,)))
        await ended.wait()
        tasks.cancel_scope.cancel()
    assert not isinstance(seen[0], bytes)


async def test_a_stalled_handshake_is_closed_and_delays_nobody(
    open_transport: Any, echo: Any, call: Any, dial: Any, authority: Any, server_tls: Tls
) -> None:
    async with open_transport(tls=server_tls, handshake_timeout=3.0) as transport:
        async with transport.listen("127.0.0.1:0", echo, Limits()) as listener, dial(listener.address) as silent:
            async with dial(listener.address) as slow:
                await slow.send(b"\x16\x03")
                with anyio.fail_after(2.5):
                    await call(listener.address, Tls(ca=authority.file))
                with anyio.fail_after(5):
                    assert (await silent.rest(), await slow.rest()) == (b"", b"")


async def test_a_handshake_may_take_five_seconds_unless_told_otherwise() -> None:
    assert HANDSHAKE_SECONDS == inspect.signature(HttpTransport).parameters["handshake_timeout"].default == 5.0


async def test_a_connect_that_gets_no_handshake_fails_within_the_dial_timeout(
    open_transport: Any, peer: Any, head: Any, authority: Any
) -> None:
    async def say_nothing(raw: Any) -> None:
        await raw.rest()

    async with peer(say_nothing) as address, open_transport(tls=Tls(ca=authority.file), dial_timeout=0.2) as transport:
        with pytest.raises(ConnectFailed, match=r"no answer within 0\.2 s"):
            await transport.connect(Node(id="n", address=address)).call(head, 1, {}, b"", math.inf)


async def test_every_split_of_the_bytes_is_the_same(serving: Any, authority: Any, server_tls: Tls) -> None:
    context = Tls(ca=authority.file).for_client(["http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
    async with serving(server_tls) as (address, _):
        host, _, port = address.rpartition(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            for step in (caller.do_handshake, lambda: caller.write(request), lambda: caller.read(1000)):
                while True:
                    try:
                        answer = step()
                    except ssl.SSLWantReadError:
                        sealed = outgoing.read()
                        for at in range(len(sealed)):
                            await stream.send(sealed[at : at + 1])
                        incoming.write(await stream.receive())
                    else:
                        break
    assert isinstance(answer, bytes)
    assert answer.endswith(b"hi")


async def test_a_renewed_certificate_is_presented_without_a_restart(
    serving: Any, call: Any, authority: Any, server_tls: Tls, tmp_path: Path
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(server_tls.cert, cert)
    shutil.copy(server_tls.key, key)
    async with serving(Tls(cert=str(cert), key=str(key))) as (address, _):
        await call(address, Tls(pin=(fingerprint(str(cert)),)))
        for source, target in zip(authority.issue("greeter"), (cert, key), strict=True):
            shutil.copy(source, target)
        await call(address, Tls(pin=(fingerprint(str(cert)),)))


async def test_clear_text_off_loopback_is_refused_where_tls_is_required(
    open_transport: Any, echo: Any, server_tls: Tls
) -> None:
    async with open_transport(tls=Tls(require=True)) as transport:
        with pytest.raises(ConfigError, match=r"0\.0\.0\.0:0 would speak clear text, which require_tls forbids"):
            async with transport.listen("0.0.0.0:0", echo, Limits()):
                pass
        with pytest.raises(ConfigError, match=r"calls to 10\.0\.0\.5:80 would speak clear text"):
            transport.connect(Node(id="n", address="10.0.0.5:80", metadata=OURS))
        transport.connect(Node(id="n", address="10.0.0.5:80", metadata={**OURS, "secure": "true"}))
    async with open_transport(tls=Tls(cert=server_tls.cert, key=server_tls.key, require=True)) as transport:
        async with transport.listen("0.0.0.0:0", echo, Limits()):
            pass


async def test_who_has_tls_settings_never_falls_back_to_clear_text(serving: Any, call: Any, authority: Any) -> None:
    async with serving(None) as (address, requests):
        with pytest.raises(ConnectFailed):
            await call(address, Tls(ca=authority.file), {**OURS, "secure": "false"})
    assert requests == []


@pytest.mark.parametrize("protocols", [("h2",), ("http/1.1",)])
async def test_what_was_sent_before_the_end_is_read_to_its_end(
    open_transport: Any, head: Any, server_tls: Tls, authority: Any, protocols: Any
) -> None:
    streams: list[Any] = []
    arrived = anyio.Event()

    def keep(request: Any) -> None:
        streams.append(request.stream)
        arrived.set()

    tls = Tls(cert=server_tls.cert, key=server_tls.key, ca=authority.file)
    async with open_transport(tls=tls, protocols=protocols) as transport:
        async with transport.listen("127.0.0.1:0", keep, Limits()) as listener:
            channel = transport.connect(Node(id="n", address=listener.address, metadata=OURS))
            stream = await channel.open_stream(math.inf)
            await stream.send(head, {b"Micro-Stream": b"7", b"Micro-Id": b"7"}, b"")
            await arrived.wait()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send_all, stream, head)
                await anyio.sleep(0.2)
                received = [(await streams[0].receive()).body for _ in range(60)]
    assert [len(body) for body in received] == [30_000] * 60


async def send_all(stream: Any, head: Any) -> None:
    for _ in range(60):
        await stream.send(head, {}, b"x" * 30_000)
    await stream.aclose()
