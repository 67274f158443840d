"""Everything with its default settings, no option set anywhere, in network namespaces of the test's own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "greeter"
ONLY_LOOPBACK = "ip link set lo up"
A_NETWORK = " && ".join(
    [
        "ip link set lo up",
        "ip link add outside type veth peer name elsewhere",
        "ip addr add 192.0.2.5/24 dev outside",
        "ip link set outside up",
        "ip link set elsewhere up",
        "ip route add default dev outside",
    ]
)
# Starts two greeters, waits until they serve, runs the client, and stops the greeters in order.
DRIVER = """
import subprocess, sys
greeters = [
    subprocess.Popen([sys.executable, "-u", "greeter.py"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for _ in range(2)
]
try:
    for greeter in greeters:
        for line in greeter.stdout:
            print(line, end="")
            if " serves at " in line:
                break
    client = subprocess.run([sys.executable, "client.py"], timeout=60)
    for greeter in greeters:
        greeter.terminate()
        print(greeter.communicate(timeout=30)[0], "greeter ended with", greeter.returncode)
finally:
    for greeter in greeters:
        greeter.kill()
sys.exit(client.returncode or max(greeter.returncode for greeter in greeters))
"""


@pytest.fixture
def unshare() -> list[str]:
    """Return the command that runs another one in a network namespace of its own."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.fail("this test needs `unshare` (util-linux) and `ip` (iproute2): install them")
    tried = []
    for flags in ("-Urn", "-n"):
        done = subprocess.run(["unshare", flags, "true"], capture_output=True, text=True)
        if done.returncode == 0:
            return ["unshare", flags]
        tried.append(f"unshare {flags}: {done.stderr.strip()}")
    pytest.fail("no network namespace can be made here; run as root or allow user namespaces. " + "; ".join(tried))


@pytest.mark.parametrize("network", [ONLY_LOOPBACK, A_NETWORK], ids=["only-loopback", "a-network"])
def test_the_greeter_and_its_client_need_no_setting(unshare: list[str], network: str) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MICRO_") and k != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [*unshare, "sh", "-c", f'{network} && exec "$0" "$@"', sys.executable, "-c", DRIVER],
        cwd=EXAMPLES, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "by name:          Hello John\n" in done.stdout
    assert "stream by name:   Hello John\n" in done.stdout
    assert "published:        greetings\n" in done.stdout
    assert done.stdout.count("greeter ended with 0") == 2
    assert "\nJohn\n" in done.stdout
