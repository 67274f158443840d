"""The greeter on this framework with nothing else in its process: what an idle service holds."""

from dataclasses import dataclass

from micro_core import Service, idempotent

from .processes import SERVICE

service = Service(SERVICE)


@dataclass
class Hello:
    name: str


@service.handler
class Greeter:
    @idempotent
    async def hello(self, request: Hello) -> Hello:
        return request


@service.after_start
def say_where() -> None:
    print(f"ready {service.address}", flush=True)


def serve() -> None:
    service.run(argv=[])
