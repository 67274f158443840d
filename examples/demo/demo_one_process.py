"""The demo's programs once more, all in one process; the environment says that the parts live in memory."""

import anyio
import demo_client
import demo_greeter
import demo_subscriber

from micro_core.testing import world


async def main() -> None:
    async with world(), demo_greeter.service, demo_subscriber.service:
        await demo_client.main(greeters=1)


if __name__ == "__main__":
    anyio.run(main)
