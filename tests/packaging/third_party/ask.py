"""Ask the plugin host of a fresh process: load settings from flags and environment, make one part, print what came.

Usage: python ask.py KIND [FLAG…]
"""

import inspect
import os
import sys

from micro_core import MicroError, hookspecs
from micro_core._plugins.host import PluginHost
from micro_core.config import load


def ask(kind: str, argv: list[str]) -> str:
    settings = load(environ=os.environ, argv=argv)
    host = PluginHost(allow=settings.plugins_allow, block=settings.plugins_block)
    host.use_extensions(settings.extensions)
    part = settings.codec[0] if kind == "codec" else getattr(settings, kind)
    arguments = inspect.signature(getattr(hookspecs, f"make_{kind}")).parameters
    made = host.make(part, **dict.fromkeys(arguments.keys() - {"name", "address", "path", "options"}))
    middleware = [layer.__name__ for layer in host.middleware("client")]
    return f"{made!r} {middleware} {len(host.lifespans(None))}"  # type: ignore[arg-type]


if __name__ == "__main__":
    try:
        answer = ask(sys.argv[1], sys.argv[2:])
    except MicroError as error:
        answer = f"{type(error).__name__}: {error.detail}"
    sys.stdout.write(answer)
