"""The gallery that a command works on: in a store here, or at a server."""

import atexit
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich import progress as bars
from rich.console import Console

from vssl.bundle.default import default_bundle
from vssl.bundle.reading import open_bundle
from vssl.errors import UsageError
from vssl.sources.source import Source
from vssl_client.client import Client
from vssl_client.commands.embed_opening import check_where, open_embedder
from vssl_client.filling.contract import Way
from vssl_client.filling.embedding import EmbedHere, embedded
from vssl_client.filling.sending import SendThere
from vssl_client.folder.work import in_threads
from vssl_client.galleries.blocking import Gallery
from vssl_client.galleries.places import default_address, is_server
from vssl_client.options import Options
from vssl_client.transports.contract import Transport
from vssl_client.transports.in_process import InProcess, Late
from vssl_gallery.store.contract import Progress

if TYPE_CHECKING:
    from vssl.bundle.manifest import Precision

RETRIES = 2
"""A wrong address is said after two seconds."""


class LateClient(Client):
    """A client whose model is opened when it is first needed: most commands need none."""

    def _in_process(self, precision: "Precision") -> Transport:
        return Late(lambda: InProcess(self._bundle, precision, self._max_bytes_here))


@contextmanager
def opened(
    name: str,
    at: str | None,
    bundle: Path | None = None,
    api_key: str | None = None,
    retries: int = RETRIES,
) -> Iterator[Gallery]:
    """The gallery of that name.

    Raises:
        UsageError: a bundle is named, and a server has the gallery.
    """
    address = at or default_address()
    there = is_server(address)
    if there and bundle is not None:
        raise UsageError(f"--bundle: the server at {address} embeds with its own model; leave it out")
    client = (
        Client(address, api_key=api_key, retries=retries) if there else LateClient(bundle=bundle or default_bundle())
    )
    with client, client.gallery(name, at=None if there else address) as gallery:
        yield gallery


def reopener(name: str, at: str | None, api_key: str | None) -> Callable[[], Gallery]:
    """What opens the same gallery in another process, for as long as that lives. It knows the address whole, with a
    password if there is one.
    """
    address = at or default_address()
    return partial(_stay_open, name, address if "://" in address else str(Path(address).absolute()), api_key)


def _stay_open(name: str, at: str, api_key: str | None) -> Gallery:
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(opened(name, at, api_key=api_key))


@dataclass(frozen=True)
class Embedding:
    """What embeds the images that are added: servers, a bundle here or on Ray; or what the gallery's place has."""

    urls: list[str] | None
    bundle: Path | None
    api_key: str | None
    ray: bool
    ray_address: str | None

    def __post_init__(self) -> None:
        check_where(self.urls, self.bundle, self.ray, self.ray_address)


@contextmanager
def way_into(
    gallery: Gallery, images: Source, location: str, by: Embedding, reopen: Callable[[], Gallery]
) -> Iterator[Way]:
    """How images of a source get into the gallery, which nodes of a cluster `reopen`.

    Raises:
        UsageError: urls and a bundle are named.
        ClientError: no server answers.
    """
    if by.ray and by.bundle is not None:
        from vssl_client.filling.sharding import PutShard, PutThere
        from vssl_client.folder.ray import RayWork

        encoder = open_bundle(by.bundle).manifest.encoder_id
        put = PutShard(reopen, partial(embedded, thumbnails=True, precision="fp32"))  # what the nodes run
        # Before the gallery is opened: Ray forks, and a store's threads don't outlive that.
        with RayWork(images, location, by.bundle, put, by.ray_address) as work:
            yield PutThere(encoder, work)
        return
    if is_server(gallery.address) and not by.urls and by.bundle is None:
        yield SendThere(images, gallery)
        return
    with open_embedder(by.urls, by.bundle, Options(api_key=by.api_key)) as embedder:
        model, kept = embedder.model(), gallery.info().keep_thumbnails
        embed = partial(embedded, thumbnails=kept, precision=model.precision)
        yield EmbedHere(gallery, model.encoder_id, in_threads(images, embedder, embed))


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """A bar on standard error, if that is a terminal, for a server's job."""
    console = Console(stderr=True)
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TaskProgressColumn())
    with bars.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda done: bar.update(task, completed=done)
