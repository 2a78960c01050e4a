"""Requests good and bad, at a rate or one after the other, their answers checked and counted."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.soak_attacks import ATTACKS, HELD, Attack, Site, WrongError, good

CONNECTIONS = 700
BAD_SHARE = 0.1


class Soak:
    """The requests, and what came of them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.counts: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.seconds: list[float] = []
        """Of each good request that was answered with 200."""

    async def request(self, attack: Attack) -> None:
        """One request of a kind, its answer checked and counted."""
        begun = time.monotonic()
        try:
            outcome = await attack(self.site)
        except (WrongError, OSError, EOFError, TimeoutError) as error:
            self.wrong[f"{attack.__name__}: {error!r}"[:300]] += 1
            return
        self.counts[f"{attack.__name__} {outcome}"] += 1
        if attack is good and outcome == "200":
            self.seconds.append(time.monotonic() - begun)

    async def closed(self, attack: Attack, connections: int, seconds: float) -> float:
        """Requests of a kind, so many at any time; those answered with 200 in a second."""
        end, before = time.monotonic() + seconds, self.counts[f"{attack.__name__} 200"]

        async def one_after_the_other() -> None:
            while time.monotonic() < end:
                await self.request(attack)

        await asyncio.gather(*(one_after_the_other() for _ in range(connections)))
        return (self.counts[f"{attack.__name__} 200"] - before) / seconds

    async def open(self, rate: float, seconds: float) -> int:
        """So many requests a second, good and bad, whether or not the earlier ones are answered; the number sent."""
        running: set[asyncio.Task[None]] = set()
        begun = time.monotonic()
        for number in itertools.count():
            due = begun + number / rate
            if due > begun + seconds:
                break
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            while len(running) >= CONNECTIONS:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if time.monotonic() > begun + seconds:
                break
            task = asyncio.create_task(self.request(self._any()))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)
        return number

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold connections beside what the `with` block does, each anew when the server has ended it."""

        async def again(attack: Attack) -> None:
            while True:
                await self.request(attack)

        kinds = {attack: count for attack, count in HELD.items() if self.site.grpc or attack.__name__ != "watched"}
        tasks = [asyncio.create_task(again(attack)) for attack, count in kinds.items() for _ in range(count)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _any(self) -> Attack:
        if self.site.random.random() >= BAD_SHARE:
            return good
        [attack] = self.site.random.choices(list(ATTACKS), list(ATTACKS.values()))
        return attack
