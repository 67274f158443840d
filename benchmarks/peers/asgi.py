"""The greeter as a bare ASGI application, for the servers that run one, and uvicorn at its fastest."""

from typing import Any

import uvicorn

from .messages import answer
from .processes import free_port


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    codec = scope["path"].rpartition("/")[2]
    reply = answer(codec, body)
    headers = [(b"content-type", b"application/" + codec.encode()), (b"content-length", b"%d" % len(reply))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply})


class Uvicorn(uvicorn.Server):  # type: ignore[misc]
    """Serves an application at a free port, and says where once it answers."""

    def __init__(self, application: Any) -> None:
        options: Any = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "error"}
        super().__init__(uvicorn.Config(application, port=free_port(), lifespan="off", **options))

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        print(f"ready 127.0.0.1:{self.config.port}", flush=True)
