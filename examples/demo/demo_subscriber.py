"""The demo's subscriber: greets whoever is announced, by calling a greeter."""

from demo_greeter import GREETER, Greeter, Name

from micro_core import Service

service = Service("subscriber")


@service.subscriber("arrivals", queue="reception")
async def on_arrival(arrival: Name) -> None:
    greeting = await service.client.proxy(GREETER, Greeter).hello(arrival)
    print(f"got a message: {arrival.name} has arrived. {greeting.text}! ({greeting.by} says)", flush=True)


@service.after_start
def say_so() -> None:
    print(f"is ready at {service.address}", flush=True)


if __name__ == "__main__":
    service.run()
