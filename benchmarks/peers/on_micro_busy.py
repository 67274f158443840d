"""The greeter on this framework with a handler that computes for about a millisecond: what several workers share."""

from micro_core import Service, idempotent

from .messages import Greeting, Hello
from .on_micro import caller
from .processes import SERVICE

__all__ = ["caller", "serve"]

STEPS = 70_000
service = Service(SERVICE)


@service.handler
class Greeter:
    @idempotent
    async def hello(self, request: Hello) -> Greeting:
        sum(range(STEPS))
        return Greeting(request.name)


@service.after_start
def say_where() -> None:
    print(f"ready {service.address}", flush=True)


def serve() -> None:
    service.run(argv=[])
