"""What every test of this repository runs under: each async backend, and the rule that a test leaves nothing behind.

Shared by `tests/` and `plugins/*/tests`; imports nothing of the tree, so that it serves tests of installed wheels too.
"""

import asyncio
import asyncio.runners
import datetime
import gc
import ipaddress
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

DESCRIPTORS = Path("/proc/self/fd")
THREADS_KEPT_FOR_REUSE = ("Trio thread",)  # trio's cache ends them after ten idle seconds
GRACE = 1.0  # seconds that a thread told to stop may take

_tasks_left: list[str] = []


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param(("trio", {}), id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Run an async test on asyncio, on asyncio with uvloop, and on trio."""
    return request.param


def pytest_configure(config: pytest.Config) -> None:
    """Record tasks left when an event loop closes, time no property; where wheels are tested, refuse the tree."""
    asyncio.runners._cancel_all_tasks = _record_and_cancel  # type: ignore[attr-defined]
    hypothesis.settings.register_profile(
        "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("untimed")
    _open_what_uvloop_keeps()
    if os.environ.get("MICRO_TESTS_FROM_WHEELS"):
        import micro_core

        origin = Path(micro_core.__file__ or "").resolve()
        if not origin.is_relative_to(Path(sys.prefix).resolve()):
            raise pytest.UsageError(f"wheels are to be tested, but micro_core was imported from {origin}")


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves file descriptors, threads or asyncio tasks open."""
    _tasks_left.clear()
    descriptors, threads = _open_descriptors(), set(threading.enumerate())
    yield
    left = [*_tasks_left, *_threads_left(threads), *_descriptors_left(descriptors)]
    if left:
        pytest.fail("left behind by this test:\n  " + "\n  ".join(left), pytrace=False)


_cancel_all_tasks = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]


def _record_and_cancel(loop: asyncio.AbstractEventLoop) -> None:
    """Stand in for the standard library's clean-up, which would hide forgotten tasks by cancelling them."""
    _tasks_left.extend(f"task {task!r}" for task in asyncio.all_tasks(loop) if not _belongs_to_the_test_runner(task))
    _cancel_all_tasks(loop)


def _open_what_uvloop_keeps() -> None:
    """Run one loop, so that the pipe that uvloop keeps for the whole process is not taken for the first test's leak."""
    try:
        import uvloop
    except ImportError:  # where it does not exist, only the tests that ask for it fail
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.sleep(0))


def _belongs_to_the_test_runner(task: asyncio.Task[Any]) -> bool:
    return getattr(task.get_coro(), "__qualname__", "") == "TestRunner._run_tests_and_fixtures"


def _threads_left(before: set[threading.Thread]) -> list[str]:
    started = [t for t in threading.enumerate() if t not in before and not t.name.startswith(THREADS_KEPT_FOR_REUSE)]
    for thread in started:
        thread.join(GRACE)
    return [f"thread {thread!r}" for thread in started if thread.is_alive()]


def _descriptors_left(before: set[tuple[str, str]]) -> list[str]:
    if not _open_descriptors() - before:
        return []
    gc.collect()  # what only garbage held is closed here, and reported as a ResourceWarning
    return [f"file descriptor {number}: {target}" for number, target in sorted(_open_descriptors() - before)]


def _open_descriptors() -> set[tuple[str, str]]:
    """Return number and target of every open descriptor that matters; empty where the system does not list them."""
    found = set()
    for entry in DESCRIPTORS.iterdir() if DESCRIPTORS.is_dir() else ():
        try:
            target = os.readlink(entry)
        except OSError:  # the descriptor of this very listing
            continue
        if not target.startswith(("/dev/", "/proc/")):
            found.add((entry.name, target))
    return found


class Authority:
    """A certificate authority of one test run, whose certificates can be wrong in any way."""

    def __init__(self, folder: Path, name: str) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec

        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._made = 0
        self.file = self._write(
            f"{name}.pem", self._signed(name, self._key, days=(-1, 30), is_authority=True, names=())
        )

    def issue(self, name: str, *, days: tuple[int, int] = (-1, 30), names: Any = ("127.0.0.1",)) -> tuple[str, str]:
        """Return the files of a certificate and of its key; ``days`` say from when and until when it is valid."""
        from cryptography.hazmat.primitives.asymmetric import ec

        return self._pair(name, ec.generate_private_key(ec.SECP256R1()), days, names, self._name)

    def self_signed(self, name: str) -> tuple[str, str]:
        """Return the files of a certificate that nobody vouches for, and of its key."""
        from cryptography.hazmat.primitives.asymmetric import ec

        return self._pair(name, ec.generate_private_key(ec.SECP256R1()), (-1, 30), ("127.0.0.1",), "")

    def _pair(self, name: str, key: Any, days: tuple[int, int], names: Any, issuer: str) -> tuple[str, str]:
        from cryptography.hazmat.primitives import serialization

        self._made += 1
        certificate = self._signed(name, key, days=days, is_authority=False, names=names, issuer=issuer)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        stem = f"{self._name}-{name}-{self._made}"
        return self._write(f"{stem}.pem", certificate), self._write(f"{stem}-key.pem", secret)

    def _signed(
        self, name: str, key: Any, *, days: tuple[int, int], is_authority: bool, names: Any, issuer: str | None = None
    ) -> bytes:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.x509.oid import NameOID

        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        def alternative(text: str) -> x509.GeneralName:
            try:
                return x509.IPAddress(ipaddress.ip_address(text))
            except ValueError:
                return x509.DNSName(text)

        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer or name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        signing = self._key if issuer or is_authority else key
        # Python 3.13 verifies as strictly as RFC 5280 §4.2.1 is.
        if is_authority:
            others = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment"]
            others += ["key_agreement", "encipher_only", "decipher_only"]
            usages = dict.fromkeys(others, False)
            usage = x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usages)
            builder = builder.add_extension(usage, critical=True)
        else:
            known = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
            builder = builder.add_extension(known, critical=False)
            builder = builder.add_extension(
                x509.SubjectAlternativeName([alternative(text) for text in (name, *names)]), critical=False
            )
        signed = builder.sign(signing, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    def _write(self, name: str, content: bytes) -> str:
        path = self._folder / name
        path.write_bytes(content)
        return str(path)


@pytest.fixture(scope="session")
def new_authority(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that makes an authority of its own."""

    def make(name: str = "authority") -> Authority:
        return Authority(tmp_path_factory.mktemp("certificates"), name)

    return make


@pytest.fixture(scope="session")
def authority(new_authority: Any) -> Authority:
    """Return the authority that the tests of this run trust."""
    made: Authority = new_authority()
    return made
