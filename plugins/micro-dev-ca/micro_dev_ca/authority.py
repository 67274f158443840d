"""An authority in a folder, and the certificates that it signs."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "Pair"]

LEAF_DAYS = 30
AUTHORITY_DAYS = 365
_HERE = ("localhost", "127.0.0.1", "::1")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_CLOCKS_DIFFER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """The authority of a folder: the one that is there, or a new one.

    Raises ValueError where the folder holds half of one, or what is no PEM, and OSError where it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pair = Pair(certificate=folder / "ca.pem", key=folder / "ca-key.pem")
        there = [path.exists() for path in (self.pair.certificate, self.pair.key)]
        if any(there) and not all(there):
            raise ValueError(f"{folder} holds only one of ca.pem and ca-key.pem; delete it, or bring the other back")
        if not any(there):
            self._make()
        self._certificate = x509.load_pem_x509_certificate(self.pair.certificate.read_bytes())
        key = serialization.load_pem_private_key(self.pair.key.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{self.pair.key} is no key of this program's")
        self._key = key

    def issue(self, name: str, hosts: Sequence[str] = ()) -> Pair:
        """Return a new certificate for ``name``, this machine and ``hosts``, in place of the one of that name.

        Raises ValueError for what is no name of a host.
        """
        if not _NAME.fullmatch(name) or name == "ca":
            raise ValueError(f"{name!r} cannot name a certificate; write letters, digits, '.', '-' and '_'")
        names = dict.fromkeys((name, *_HERE, *hosts))
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, self._certificate.subject, key, LEAF_DAYS).add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(text) for text in names]), critical=False)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        pair = Pair(certificate=self.folder / f"{name}.pem", key=self.folder / f"{name}-key.pem")
        _write(pair, builder.sign(self._key, hashes.SHA256()), key)
        return pair

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named("micro development authority")
        builder = _builder("micro development authority", subject, key, AUTHORITY_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        _write(self.pair, builder.sign(key, hashes.SHA256()), key)

    def __repr__(self) -> str:
        return f"<Authority in {self.folder}>"


def _builder(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + timedelta(days=days))
    )


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except (ValueError, UnicodeError) as error:
        raise ValueError(f"{text!r} is neither an address nor a host name") from error


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(pair: Pair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """Write both files whole: who reads one meanwhile gets the old or the new one."""
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _replace(pair.key, secret, mode=0o600)
    _replace(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    beside.replace(path)
