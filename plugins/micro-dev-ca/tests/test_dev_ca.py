"""The development authority: what it makes is right for TLS, and for nothing more."""

import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from micro_dev_ca import Authority
from micro_dev_ca.__main__ import main


def shaken(authority: Authority, server: Any, client: Any, name: str) -> Any:
    """Return both ends after a handshake in which each asked the other for a certificate."""
    called = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.pair.certificate)
    called.verify_mode = ssl.CERT_REQUIRED
    called.load_cert_chain(server.certificate, server.key)
    caller = ssl.create_default_context(cafile=authority.pair.certificate)
    caller.verify_flags |= ssl.VERIFY_X509_STRICT
    caller.load_cert_chain(client.certificate, client.key)
    a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = caller.wrap_bio(a, b, server_hostname=name), called.wrap_bio(b, a, server_side=True)
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    return ends


@pytest.mark.parametrize("name", ["greeter", "localhost", "127.0.0.1", "::1", "10.1.2.3", "greeter.example"])
def test_certificates_are_verified_by_openssl_in_both_directions(tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path)
    server = authority.issue("greeter", ["10.1.2.3", "greeter.example"])

    _, called = shaken(authority, server, authority.issue("client"), name)

    assert ("DNS", "client") in called.getpeercert()["subjectAltName"]


def test_a_name_that_was_not_asked_for_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(authority, authority.issue("greeter"), authority.issue("client"), "other")


def test_a_certificate_is_no_authority_and_lives_thirty_days(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("greeter")
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())

    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)


def test_keys_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    keys = [authority.pair.key, authority.issue("greeter").key]

    assert [stat.S_IMODE(key.stat().st_mode) for key in keys] == [0o600, 0o600]


def test_an_authority_that_is_there_stays_and_renews(tmp_path: Path) -> None:
    first, before = Authority(tmp_path), Authority(tmp_path).issue("greeter").certificate.read_bytes()
    again = Authority(tmp_path)

    assert again.pair.certificate.read_bytes() == first.pair.certificate.read_bytes()
    assert again.issue("greeter").certificate.read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ca-key.pem",
        "ca.pem",
        "greeter-key.pem",
        "greeter.pem",
    ]


def test_one_command_makes_all_and_prints_settings_that_a_shell_reads(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "micro_dev_ca", "--folder", str(tmp_path / "c"), "greeter"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    shown = subprocess.run(
        ["sh", "-c", f"{made.stdout}\nenv"], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"}
    )
    settings = dict(line.split("=", 1) for line in shown.stdout.splitlines() if line.startswith("MICRO_TLS_"))

    assert settings.keys() == {"MICRO_TLS_CERT", "MICRO_TLS_KEY", "MICRO_TLS_CA", "MICRO_TLS_CLIENT_CA"}
    assert all(Path(path).is_file() for path in settings.values())


@pytest.mark.parametrize("arguments", [["../evil"], ["ca"], ["greeter", "--host", "grüßer"]])
def test_what_is_no_name_is_refused_in_one_sentence(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--folder", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("micro-dev-ca: ")


def test_half_an_authority_is_refused(tmp_path: Path) -> None:
    Authority(tmp_path).pair.key.unlink()

    with pytest.raises(ValueError, match="holds only one of"):
        Authority(tmp_path)
