"""Two subscribers of one topic: a queue group that shares the orders, and one that sees them all.

Start several with `python worker.py`, then `python publisher.py`: one of them packs an order, each counts it.
"""

from dataclasses import dataclass

from micro_core import Service


@dataclass
class Order:
    number: int
    item: str


service = Service("worker")


@service.subscriber("orders", queue="packing")
async def pack(order: Order) -> None:
    print(f"packing order {order.number}: {order.item}", flush=True)


@service.subscriber("orders")
async def count(order: Order) -> None:
    print(f"seen order {order.number}", flush=True)


if __name__ == "__main__":
    service.run()
