"""Every way to reach the greeter. Start one or more with `python greeter.py`, then run `python client.py`."""

from collections.abc import AsyncIterator

import anyio
from greeter import Greeter, HelloRequest, HelloResponse

from micro_core import Client


async def names() -> AsyncIterator[HelloRequest]:
    for name in ("Ada", "Grace", "Barbara"):
        yield HelloRequest(name)


async def main() -> None:
    async with Client() as client:
        reply = await client.call("greeter", "Greeter.Hello", HelloRequest("John"), HelloResponse)
        print("by name:         ", reply.greeting)

        greeter = client.proxy("greeter", Greeter)  # typed: editors and mypy know hello()
        reply = await greeter.hello(HelloRequest("John"))
        print("by typed proxy:  ", reply.greeting)
        async for reply in greeter.repeat(HelloRequest("John")):
            print("server stream:   ", reply.greeting)
        reply = await greeter.greet_all(names())
        print("client stream:   ", reply.greeting)
        async for reply in greeter.chat(names()):
            print("both directions: ", reply.greeting)

        async with client.stream("greeter", "Greeter.Chat", HelloResponse) as stream:  # by name
            await stream.send(HelloRequest("John"))
            await stream.close_send()
            async for reply in stream:
                print("stream by name:  ", reply.greeting)

        await client.publish("greetings", HelloRequest("John"))  # one of the greeters prints it
        print("published:        greetings")


if __name__ == "__main__":
    anyio.run(main)
