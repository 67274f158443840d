"""The command: makes an authority and certificates, and prints the settings to use them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from micro_dev_ca.authority import Authority, Pair

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Make what the arguments ask for, and print settings that a shell can read. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="micro-dev-ca", description="A certificate authority for development.")
    parser.add_argument("names", nargs="+", metavar="NAME", help="make a certificate for this name")
    parser.add_argument("--folder", type=Path, default=Path("certificates"), help="where all files lie")
    parser.add_argument("--host", action="append", default=[], help="a further address or name that it is reached at")
    arguments = parser.parse_args(argv)
    try:
        authority = Authority(arguments.folder.absolute())
        pairs = {name: authority.issue(name, arguments.host) for name in arguments.names}
    except (OSError, ValueError) as error:
        sys.stderr.write(f"micro-dev-ca: {error}\n")
        return 1
    for name, pair in pairs.items():
        sys.stdout.write(_settings(name, authority.pair, pair))
    return 0


def _settings(name: str, authority: Pair, pair: Pair) -> str:
    lines = [
        f"# {name}; leave out the last line where callers need no certificate",
        f"export MICRO_TLS_CERT='{pair.certificate}'",
        f"export MICRO_TLS_KEY='{pair.key}'",
        f"export MICRO_TLS_CA='{authority.certificate}'",
        f"export MICRO_TLS_CLIENT_CA='{authority.certificate}'",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
