"""Who subscribes to what, as the registry shows it: a view that a watch keeps up to date."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import anyio

from micro_broker_http.wire.envelope import Form
from micro_broker_http.wire.naming import Subscriber, subscribers
from micro_core import Change, ChangeKind, Record, Registry, RegistryError
from micro_core.follower import Follower

__all__ = ["Directory"]

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
        self._answered = {form: anyio.Event() for form in Form}

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
        """Wait until the registry has told of all subscribers there are, or that it cannot."""
        for answered in self._answered.values():
            await answered.wait()

    async def _follow(self, form: Form) -> None:
        def tell(change: Change) -> None:
            if change.kind is ChangeKind.SYNC:
                self._answered[form].set()
            else:
                self.apply(change)

        def lost(error: Exception) -> None:
            self._answered[form].set()

        await Follower(self._registry, form.value, tell, lost, sleep=self._sleep, random=self._random).run()

    async def refresh(self) -> list[Subscriber]:
        """Ask the registry now, take in what it knows, and return that. Raises `RegistryError`."""
        records: list[Record] = []
        errors: list[RegistryError] = []

        async def ask(form: Form) -> None:
            try:
                records.extend(await self._registry.lookup(form.value))
            except RegistryError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            for form in Form:
                group.start_soon(ask, form)
        if errors:
            raise errors[0]
        for record in records:
            self.apply(Change(kind=ChangeKind.UPDATE, record=record))
        return [subscriber for record in records for subscriber in subscribers(record)]

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
