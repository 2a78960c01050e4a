"""`vssl embed` as a function."""

import os
from collections.abc import Callable
from contextlib import ExitStack, closing

from vssl.objects.path import path_of
from vssl.sources.opening import open_source
from vssl_client.client import Client
from vssl_client.embedding.contract import Embedder
from vssl_client.folder.contract import SILENT, Choice, Reporter, Summary
from vssl_client.folder.job import embed_source
from vssl_client.formats.contract import FormatName

Progress = Callable[[int, int], object]
"""Called after each batch with the number of images that have a row, and of those that failed."""


class _Calling(Reporter):
    def __init__(self, progress: Progress) -> None:
        self._progress, self._done, self._failed = progress, 0, 0

    def begin(self, done: int, failed: int) -> None:
        self.advance(done, failed)

    def advance(self, images: int, failed: int) -> None:
        self._done += images
        self._failed += failed
        self._progress(self._done, self._failed)


def embed_folder(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    client: Embedder | None = None,
    *,
    progress: Progress | None = None,
    format: FormatName = "parquet",
    overwrite: bool = False,
    retry_failed: bool = False,
    changed: bool = False,
    limit: int | None = None,
    variance: bool = True,
) -> Summary:
    """Embed every image of a source into a folder of parts. Run again after any end, it goes on.

    Args:
        source: a folder, an archive, `archive.zip::folder`, tar shards or a pattern, as for `vssl embed`; each of them
            in an object store too.
        out: the folder for the parts, `s3://BUCKET/FOLDER` too; `read_embeddings` reads it.
        client: a `Client`; by default for the servers in VSSL_URL, or else the default model in this process.
        progress: called after each batch with the number of images that have a row, and of those that failed. Its
            exceptions end the job; finished parts stay.
        format: what new parts are written in.
        overwrite: first delete the parts that `out` holds.
        retry_failed: also embed again the images that failed.
        changed: also embed again the images that have changed; every file is read.
        limit: embed at most so many images.
        variance: False leaves it out.

    Raises:
        UsageError: there are no images; `out` holds something else, or embeddings of another model or source.
        ClientError: the servers failed for good. What is finished stays.
        VsslError: a part of an earlier run can't be read, or the disk is full.
        OSError: the source can't be listed.
    """
    with ExitStack() as stack:
        images = stack.enter_context(closing(open_source(os.fspath(source))))
        embedder = client if client is not None else stack.enter_context(Client())
        return embed_source(
            images,
            path_of(out),
            embedder,
            format=format,
            overwrite=overwrite,
            choice=Choice(retry_failed, changed, limit, variance),
            reporter=SILENT if progress is None else _Calling(progress),
        )
