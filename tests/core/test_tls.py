"""TLS settings: where they come from, what is wrong with them, and contexts that follow their files."""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import pydoc
import shutil
import ssl
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

from micro_core import ConfigError, Tls
from micro_core._plugins.build import build
from micro_core.config import load
from micro_core.tls import explain, peer_names


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "127.0.0.1") -> tuple[Any, Any]:
    """Return both ends of a connection in memory. Raises what either end raises."""
    a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller, called = client.wrap_bio(a, b, server_hostname=name), server.wrap_bio(b, a, server_side=True)
    for _ in range(4):
        for end in (caller, called):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    return caller, called


@pytest.fixture
def pair(authority: Any) -> dict[str, Any]:
    cert, key = authority.issue("greeter")
    return {"cert": cert, "key": key}


def fingerprint(path: str) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(Path(path).read_text())).hexdigest()


def test_settings_come_from_flags_variables_and_file(tmp_path: Path) -> None:
    file = tmp_path / "micro.toml"
    file.write_text('tls_ca = "ca.pem"\nrequire_tls = true\ntls_pin = ["aa", "bb"]\n')

    settings = load(environ={"MICRO_TLS_CERT": "cert.pem", "MICRO_CONFIG": str(file)}, argv=["--tls_key", "key.pem"])

    assert settings.tls == Tls(cert="cert.pem", key="key.pem", ca="ca.pem", require=True, pin=("aa", "bb"))


def test_options_of_a_part_go_over_the_settings() -> None:
    tls, rest = Tls(cert="all.pem", ca="ca.pem").overlaid({"tls_cert": "own.pem", "pool_size": "3"})

    assert (tls, rest) == (Tls(cert="own.pem", ca="ca.pem"), {"pool_size": "3"})


def test_a_misspelt_option_is_a_near_miss() -> None:
    with pytest.raises(ConfigError, match="'tls_crt'; did you mean 'tls_cert'"):
        Tls().overlaid({"tls_crt": "x"})


def test_nothing_set_is_clear_text() -> None:
    assert (Tls().listens, Tls().calls, repr(Tls())) == (False, False, "<Tls off>")


def test_both_ends_verify_and_know_each_other(authority: Any, pair: dict[str, Any]) -> None:
    cert, key = authority.issue("caller", names=())
    server = Tls(**pair, client_ca=authority.file).for_server(["h2", "http/1.1"])
    client = Tls(cert=cert, key=key, ca=authority.file).for_client(["http/1.1"])

    caller, called = handshake(server, client)

    assert peer_names(called) == ("caller",)
    assert peer_names(caller) == ("greeter", "127.0.0.1")
    assert called.selected_alpn_protocol() == "http/1.1"
    assert called.version() == "TLSv1.3"


def test_a_caller_that_was_not_asked_has_no_names(authority: Any, pair: dict[str, Any]) -> None:
    _, called = handshake(Tls(**pair).for_server([]), Tls(ca=authority.file).for_client([]))

    assert peer_names(called) == ()


def test_another_name_can_be_expected_than_the_address(authority: Any, pair: dict[str, Any]) -> None:
    client = Tls(ca=authority.file, server_name="greeter").for_client([])

    handshake(Tls(**pair).for_server([]), client, name="10.9.8.7")


@pytest.mark.parametrize("form", ["{}", "sha256:{}", "SHA-256 is case-blind {}"])
def test_a_pin_is_enough(authority: Any, form: str) -> None:
    cert, key = authority.self_signed("alone")
    digest = fingerprint(cert)
    colons = ":".join(digest[at : at + 2] for at in range(0, 64, 2)).upper()
    pin = colons if form.startswith("SHA") else form.format(digest)

    handshake(Tls(cert=cert, key=key).for_server([]), Tls(pin=("00" * 32, pin)).for_client([]))


def test_a_pin_and_an_authority_must_both_agree(authority: Any, new_authority: Any, pair: dict[str, Any]) -> None:
    client = Tls(ca=new_authority("other").file, pin=(fingerprint(pair["cert"]),)).for_client([])

    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(Tls(**pair).for_server([]), client)


def test_another_certificate_than_the_pinned_is_refused(pair: dict[str, Any]) -> None:
    with pytest.raises(ssl.SSLError) as raised:
        handshake(Tls(**pair).for_server([]), Tls(pin=("ab" * 32,)).for_client([]))

    assert explain(raised.value) == f"its certificate's sha256 is {fingerprint(pair['cert'])}, which is not pinned"


def test_a_changed_certificate_is_used_from_the_next_connection_on(authority: Any, tmp_path: Path) -> None:
    cert, key, ca = tmp_path / "cert.pem", tmp_path / "key.pem", authority.file
    server, client = None, Tls(ca=ca).for_client([])
    seen = []
    for name in ("before", "after"):
        for source, target in zip(authority.issue(name), (cert, key), strict=True):
            shutil.copy(source, target)
        server = server or Tls(cert=str(cert), key=str(key)).for_server([])
        seen.append(peer_names(handshake(server, client)[0])[0])

    assert seen == ["before", "after"]


def test_an_authority_that_is_taken_away_is_trusted_no_longer(
    authority: Any, new_authority: Any, pair: dict[str, Any], tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    shutil.copy(authority.file, ca)
    server, client = Tls(**pair).for_server([]), Tls(ca=str(ca)).for_client([])
    handshake(server, client)
    shutil.copy(new_authority("next").file, ca)

    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client)


def test_files_that_broke_are_logged_and_what_was_there_stays(
    authority: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = (shutil.copy(source, tmp_path / name) for source, name in zip(authority.issue("x"), "ck", strict=True))
    server, client = Tls(cert=str(cert), key=str(key)).for_server([]), Tls(ca=authority.file).for_client([])
    os.truncate(cert, 10)

    handshake(server, client)

    assert "what was there before stays in use" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"cert": "none.pem"}, "tls_cert 'none.pem' cannot be read: No such file or directory"),
        ({"key": "none.pem"}, "tls_key 'none.pem' cannot be read: No such file or directory"),
        ({"key": "{other}"}, "is not the key of the certificate in tls_cert"),
        ({"cert": "{junk}"}, "hold no certificate with its key in PEM"),
        ({"client_ca": "none.pem"}, "tls_client_ca 'none.pem' cannot be read: No such file or directory"),
        ({"client_ca": "{junk}"}, "holds no certificate in PEM"),
        ({"cert": ""}, "tls_key is set and tls_cert is not"),
        ({"cert": "", "key": "", "client_ca": "x"}, "tls_client_ca is set and tls_cert is not"),
        ({"key": "{locked}"}, "is encrypted"),
    ],
)
def test_wrong_settings_of_a_listener_are_one_sentence(
    wrong: dict[str, Any], sentence: str, authority: Any, pair: dict[str, Any], tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization as pem

    junk, locked = tmp_path / "junk.pem", tmp_path / "locked.pem"
    junk.write_text("no pem at all")
    secret = pem.load_pem_private_key(Path(pair["key"]).read_bytes(), None)
    encrypted = pem.BestAvailableEncryption(b"pass")
    locked.write_bytes(secret.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, encrypted))
    files = {"junk": junk, "locked": locked, "other": authority.issue("other")[1]}

    with pytest.raises(ConfigError) as raised:
        Tls(**{**pair, **{name: value.format(**files) for name, value in wrong.items()}}).for_server([])

    assert sentence in str(raised.value)


@pytest.mark.parametrize("half", [Tls(key="key.pem"), Tls(client_ca="ca.pem")])
def test_half_of_what_a_listener_needs_is_no_clear_text(half: Tls) -> None:
    assert half.listens
    assert half.calls


@pytest.mark.parametrize(
    ("tls", "sentence"),
    [
        (Tls(ca="none.pem"), "tls_ca 'none.pem' cannot be read"),
        (Tls(key="key.pem"), "tls_key is set and tls_cert is not"),
        (Tls(pin=("abc",)), "tls_pin 'abc' is no SHA-256"),
        (Tls(pin=("00" * 32,), insecure_skip_verify=True), "exclude each other"),
        (Tls(pin=("00" * 32,), client_context=ssl.create_default_context()), "exclude each other"),
    ],
)
def test_wrong_settings_of_a_caller_are_one_sentence(tls: Tls, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        tls.for_client([])


def test_not_verifying_takes_an_insecure_option_and_warns(authority: Any, caplog: pytest.LogCaptureFixture) -> None:
    cert, key = authority.self_signed("alone")
    with caplog.at_level(logging.WARNING, "micro.tls"):
        client = Tls(insecure_skip_verify=True).for_client([])

    handshake(Tls(cert=cert, key=key).for_server([]), client)

    assert "tls_insecure_skip_verify" in caplog.text


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:8080", "localhost:80"])
def test_clear_text_may_be_spoken_within_this_machine(address: str) -> None:
    Tls(require=True).check_clear_text(address, "the listener at")


@pytest.mark.parametrize("address", [":8080", "0.0.0.0:80", "[::]:1", "10.0.0.5:1", "example.org:1"])
def test_clear_text_beyond_it_is_refused_where_tls_is_required(address: str) -> None:
    Tls().check_clear_text(address, "the listener at")
    with pytest.raises(ConfigError, match="require_tls forbids"):
        Tls(require=True).check_clear_text(address, "the listener at")


def test_what_whoever_only_calls_has_to_set_is_another_thing_than_what_a_listener_has() -> None:
    with pytest.raises(ConfigError, match=r"set tls_ca, .*\(docs/tls.md\)"):
        Tls(require=True).check_clear_text("10.1.2.3:6379", "the registry at")
    with pytest.raises(ConfigError, match="set tls_cert and tls_key"):
        Tls(require=True).check_clear_text("10.1.2.3:80", "the listener at", listens=True)


def test_the_settings_can_be_read_up_on() -> None:
    assert "server_context" in inspect.signature(Tls).parameters
    assert typing.get_type_hints(Tls)["server_context"] == ssl.SSLContext | None
    assert typing.get_type_hints(Tls.for_server)["return"] is ssl.SSLContext
    assert "for_client" in pydoc.plain(pydoc.render_doc(Tls))


def test_the_core_is_imported_without_ssl() -> None:
    asked = "import sys, micro_core.tls, micro_core; print(micro_core.Tls.__name__, 'ssl' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert ran.stdout == "Tls False\n"


def test_an_unknown_option_of_a_part_that_takes_tls_is_told_all_that_there_are() -> None:
    def part(*, tls: Tls, timeout: float = 1.0) -> Tls:
        return tls

    with pytest.raises(ConfigError, match=r"its options: timeout, tls_ca, tls_cert, .*tls_server_name"):
        build(part, {"colour": "red"}, tls=Tls())
