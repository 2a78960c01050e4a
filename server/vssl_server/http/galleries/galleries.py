"""The galleries of a server: opened when they are asked for, and read and written in threads of their own."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TypeVar

from vssl.memory import cores
from vssl_gallery.errors import GalleryError, StoreUnavailable, UnknownGallery
from vssl_gallery.gallery import Gallery
from vssl_gallery.store.contract import Place, Spec
from vssl_gallery.store.opening import open_place
from vssl_server.background.computed import Computed
from vssl_server.background.jobs import Jobs
from vssl_server.background.worker import Worker
from vssl_server.observed import metrics
from vssl_server.observed.tracing import store_call

T = TypeVar("T")

THREADS = 16
"""Calls of the store at once; most of them wait for a disk or a network."""

NAMED_SECONDS = 1.0
"""For which a name keeps its meaning: an alias that another program moves is followed so late."""

CHECK_SECONDS = 10.0
"""Between two looks whether the store answers."""

PATIENCE_SECONDS = 10.0
"""After which a store that does not answer counts as away."""

END_SECONDS = 5.0

DRAWING_THREADS = max(1, cores() // 2)
"""Each holds one whole image in memory."""


class Galleries:
    """See `open` and `run`. For one event loop.

    Args:
        address: see `vssl_gallery.store.opening.open_place`.
    """

    def __init__(self, address: str) -> None:
        self.jobs, self.computed = Jobs(), Computed()
        self.summed = Computed("vssl-summing", nice=False)
        """Counts and orders, which read a column or two: apart from what may take minutes."""
        self._address = address
        self._threads = Worker("vssl-store", THREADS, nice=False)
        self._drawing = Worker("vssl-thumbnails", DRAWING_THREADS)
        self._cutting = Worker("vssl-crops", DRAWING_THREADS, nice=False)
        self._lock, self._opening = threading.Lock(), threading.Lock()
        self._place: Place | None = None
        self._named: dict[str, tuple[float, str]] = {}
        self._opened: dict[str, Gallery] = {}
        self.away: str | None = None
        """Why the store does not answer, if it does not."""

    async def run(self, op: str, work: Callable[[], T]) -> T:
        """Do it in one of the store's threads. Cancelled, it goes on if it has begun.

        Raises:
            GalleryError: that of the work.
        """
        context = contextvars.copy_context()  # the span of the request
        return await asyncio.wrap_future(self._threads.submit(partial(context.run, self._timed, op, work)))

    async def draw(self, work: Callable[[], T]) -> T:
        """Make thumbnails in threads of their own, which step back for all others."""
        return await asyncio.wrap_future(self._drawing.submit(work))

    async def cut(self, work: Callable[[], T]) -> T:
        """Cut an image that somebody waits for."""
        return await asyncio.wrap_future(self._cutting.submit(work))

    async def open(self, name: str) -> Gallery:
        """The gallery of that name, or of that alias; it stays open.

        Raises:
            UnknownGallery: there is none.
        """
        meant = self._named.get(name)
        gallery = self._opened.get(meant[1]) if meant and time.monotonic() - meant[0] < NAMED_SECONDS else None
        return await self.run("open", partial(self._open, name)) if gallery is None else gallery

    def place(self) -> Place:
        """Where they lie; opened with the first call. In a thread."""
        with self._opening:  # a store that hangs must not hold up the event loop, which takes the other lock
            if self._place is None:
                self._place = open_place(self._address)
            return self._place

    def opened(self) -> list[Gallery]:
        """Those that are open now."""
        with self._lock:
            return list(self._opened.values())

    def create(self, name: str, spec: Spec) -> Gallery:
        """A new gallery; see `Place.create`. In a thread."""
        self.forget(name)
        return self._kept(name, Gallery.create(self.place(), name, spec))

    def forget(self, name: str) -> None:
        """A gallery is gone, or a name means another one. Who still works with it gets an error from its store."""
        with self._lock:
            self._named.clear()
            self._opened.pop(name, None)

    def tended(self) -> list[Coroutine[None, None, None]]:
        """What must run for as long as they are served."""
        from vssl_server.http.galleries.upkeep import keep_up  # which works on this class

        return [self.watch(), keep_up(self)]

    async def watch(self) -> None:
        """Look again and again whether the store answers."""
        while True:
            look = asyncio.ensure_future(self.run("check", lambda: self.place().check()))
            while not (await asyncio.wait([look], timeout=PATIENCE_SECONDS))[0]:  # never two looks at a time
                self._told(f"no answer within {PATIENCE_SECONDS:g} seconds")
            if not look.cancelled() and (error := look.exception()) is not None:
                self._told(str(error))
            await asyncio.sleep(CHECK_SECONDS)

    def close(self) -> None:
        """End what is under way, and let go of files and connections."""
        self.jobs.close()
        self.computed.close()
        self.summed.close()
        self._drawing.close(END_SECONDS)
        self._cutting.close(END_SECONDS)
        if self._threads.close(END_SECONDS):
            for gallery in self._opened.values():
                gallery.close()
            if self._place is not None:
                self._place.close()

    def _timed(self, op: str, work: Callable[[], T]) -> T:
        with metrics.STORE_SECONDS.labels(op).time(), store_call(op):
            try:
                answer = work()
            except StoreUnavailable as error:
                self._told(str(error))
                raise
        self._told(None)
        return answer

    def _told(self, why: str | None) -> None:
        self.away = why
        metrics.GALLERY_READY.set(why is None)

    def _open(self, name: str) -> Gallery:
        try:
            store = self.place().open(name)
        except UnknownGallery:
            with self._lock:
                self._named.pop(name, None)
                self._opened.pop(name, None)
            raise
        return self._kept(name, Gallery(store))

    def _kept(self, name: str, gallery: Gallery) -> Gallery:
        """The one that is open already, unless its table is gone."""
        known = self._opened.get(gallery.name)
        alive = known is not None and _alive(known)
        with self._lock:
            if alive and known is not None and self._opened.get(gallery.name) is known:
                gallery.close()
                gallery = known
            self._opened[gallery.name] = gallery
            self._named[name] = time.monotonic(), gallery.name
            return gallery


def _alive(gallery: Gallery) -> bool:
    try:
        gallery.store.count()
    except GalleryError:
        return False
    return True
