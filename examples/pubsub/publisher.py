"""Publish six orders and wait until every subscriber has handled them. Start workers first: `python worker.py`."""

import anyio
from worker import Order

from micro_core import Client


async def main() -> None:
    async with Client() as client:
        for number, item in enumerate(["tea", "rice", "salt", "lime", "mint", "corn"], start=1):
            await client.publish("orders", Order(number, item), confirm=True)
            print(f"order {number} was handled by every subscriber")


if __name__ == "__main__":
    anyio.run(main)
