"""What `vssl embed` reads, and what embeds it."""

import os
import sys
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from vssl.bundle.default import default_bundle
from vssl.bundle.manifest import Precision
from vssl.bundle.reading import open_bundle
from vssl.errors import UsageError
from vssl.images.names import is_image
from vssl.memory import keep_freed_memory
from vssl.sources.opening import open_source
from vssl.sources.selections import Listed, split
from vssl.sources.source import Source
from vssl_client.client import Client
from vssl_client.embedding.contract import Embedder
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.options import Options

RETRIES = 10
"""About two minutes of pauses: a server that restarts costs no more than that."""


def open_images(names: list[str]) -> Source:
    """The images that SOURCE names: a folder, an archive or a pattern; image files; or `-`, a list on standard input.

    Raises:
        UsageError: there is no such file, or standard input is closed.
        OSError: the source can't be opened.
    """
    if names == ["-"]:
        if sys.stdin is None:
            raise UsageError("-: standard input is closed; send it a list of files")
        return Listed(split(sys.stdin.buffer))
    if len(names) == 1 and not (is_image(names[0]) and Path(names[0]).is_file()):
        return open_source(names[0])
    wrong = next((name for name in names if not Path(name).is_file()), None)
    if wrong is not None:
        raise UsageError(f"{wrong}: no such file; SOURCE is one folder or archive, or one or more image files")
    return Listed(map(os.fsencode, names))


def check_where(
    urls: list[str] | None,
    bundle: Path | None,
    on_ray: bool,
    ray_address: str | None,
    precision: Precision | None = None,
) -> None:
    """Refuse flags of where the embedding is to happen that contradict each other.

    Raises:
        UsageError: they do.
    """
    if (on_ray and (bundle is None or urls)) or (ray_address and not on_ray):
        raise UsageError(
            "--engine ray runs a bundle: give --bundle too, and no --url; --ray-address goes with --engine ray"
        )
    if precision is not None and (urls or on_ray):
        raise UsageError("--precision is of a bundle that runs in this process; a server has its own: vssl serve")


def open_embedder(
    urls: list[str] | None, bundle: Path | None, options: Options, precision: Precision | None = None
) -> AbstractContextManager[Embedder]:
    """Servers, which are asked once whether they answer, or a bundle in this process, by default the default model.

    Raises:
        UsageError: both are named, or an address or an option means nothing.
        ClientError: no server answers.
        BundleError: the bundle can't be trusted.
    """
    if urls and bundle is None:
        client = partial(
            Client,
            urls,
            transport=options.transport,
            model=options.model,
            timeout=options.timeout,
            connections=options.connections,
            api_key=options.api_key,
            resize_locally=options.resize_locally,
        )
        # Report a wrong address at once, not after minutes of retries. Of several servers, one may be away.
        with client(retries=0) as probe:
            probe.model()
        return client(retries=RETRIES)
    if urls:
        raise UsageError("--url names a server, and --bundle what runs in this process: one of the two")
    keep_freed_memory()
    return LocalEmbedder(open_bundle(bundle or default_bundle()), precision=precision)
