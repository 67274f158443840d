"""Who subscribes to what, as the registry shows it: a view that a watch keeps up to date."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator

import anyio

from micro_broker_http.backoff import backoff
from micro_broker_http.wire.envelope import Form
from micro_broker_http.wire.naming import Subscriber, subscribers
from micro_core import Change, ChangeKind, Registry, RegistryError

__all__ = ["Directory"]

log = logging.getLogger("micro.broker.http")
Key = tuple[str, str]
"""Queue and node id."""


class Directory:
    """The subscribers of all topics; ``changed`` is told the topic whenever those of one came or went."""

    def __init__(
        self,
        registry: Registry,
        changed: Callable[[str], None],
        *,
        sleep: Callable[[float], Awaitable[None]],
        random: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._changed = changed
        self._sleep = sleep
        self._random = random
        self._found: dict[Key, dict[Form, Subscriber]] = {}
        self._ready = anyio.Event()

    def of(self, topic: str) -> list[Subscriber]:
        """Return the subscribers of a topic, each once."""
        return [found for found in self._all() if found.topic == topic]

    def topics(self) -> list[str]:
        """Return the topics that anybody subscribes to, sorted."""
        return sorted({found.topic for found in self._all()})

    def _all(self) -> Iterator[Subscriber]:
        return (forms.get(Form.V1) or forms[Form.V2] for forms in self._found.values())

    async def run(self) -> None:
        """Follow the registry; where it is lost, try again."""
        async with anyio.create_task_group() as group:
            for form in Form:
                group.start_soon(self._follow, form)

    async def ready(self) -> None:
        """Wait until the registry was asked once, whatever it said."""
        await self._ready.wait()

    async def _follow(self, form: Form) -> None:
        failures = 0
        while True:
            try:
                async with self._registry.watch(form.value) as changes:
                    await self.refresh()
                    self._ready.set()
                    async for change in changes:
                        failures = 0
                        self.apply(change)
            except RegistryError as error:
                failures += 1
                log.warning("subscribers cannot be followed, it is tried again: %s", error)
            self._ready.set()
            await self._sleep(backoff(failures or 1, self._random))

    async def refresh(self) -> list[Subscriber]:
        """Ask the registry now, take in what it knows, and return that. Raises `RegistryError`."""
        found = []
        for form in Form:
            for record in await self._registry.lookup(form.value):
                found += subscribers(record)
                self.apply(Change(kind=ChangeKind.UPDATE, record=record))
        return found

    def apply(self, change: Change) -> None:
        """Take in a change of either name."""
        for subscriber in subscribers(change.record):
            key = (subscriber.queue, subscriber.id)
            forms = self._found.setdefault(key, {})
            before = dict(forms)
            if change.kind is ChangeKind.DELETE:
                forms.pop(subscriber.form, None)
            else:
                forms[subscriber.form] = subscriber
            if not forms:
                del self._found[key]
            if forms != before:
                self._changed(subscriber.topic)

    def forget(self, subscriber: Subscriber) -> None:
        """Take out a subscriber that the registry has lost without saying so."""
        if self._found.pop((subscriber.queue, subscriber.id), None):
            self._changed(subscriber.topic)
