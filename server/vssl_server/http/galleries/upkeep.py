"""Maintenance that nobody has to ask for: a job, as soon as a gallery has had so many writes that it pays."""

import asyncio
import json
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from vssl.errors import VsslError
from vssl_gallery.gallery import Gallery
from vssl_server.background.jobs import Job, Work
from vssl_server.http.galleries.galleries import Galleries
from vssl_server.wire.errors import ApiError

WRITES = 256
"""Each leaves a file in a folder of galleries, or rows to be freed in a database."""

GROWTH = 50_000
"""Rows that no index covers, or that make one worth building."""

LOOK_SECONDS = 30.0
MAINTAINED = "_maintained"
"""The record of the version and the rows after the last maintenance."""

logger = logging.getLogger("vssl.server")


def maintained(gallery: Gallery) -> Mapping[str, Any]:
    """Maintain it, and tell what was done."""
    report = gallery.store.maintain()
    info = report.info
    gallery.store.write_record(MAINTAINED, json.dumps({"version": info.version, "rows": info.rows}))
    state = {"rows": info.rows, "version": info.version, "indexed_rows": info.indexed_rows, "recall": info.recall}
    return {"actions": list(report.actions), **state}


def due(gallery: Gallery) -> bool:
    """Whether maintenance pays: by the gallery's version, which each write raises, and by its rows; both are cheap."""
    record = gallery.store.read_record(MAINTAINED)
    last = {"version": 0, "rows": 0} if record is None else json.loads(record)
    writes, grown = gallery.store.version() - last["version"], gallery.store.count() - last["rows"]
    return writes >= WRITES or grown >= GROWTH


def work_of(gallery: Gallery) -> Work:
    """Maintenance as a job's work, which has no steps to stop at."""
    return lambda _: maintained(gallery)


async def keep_up(galleries: Galleries) -> None:
    """Look again and again at the galleries that are open. One whose maintenance failed is left alone until somebody
    asks for it.
    """
    tried: dict[int, Job] = {}
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for gallery in galleries.opened():
            number = galleries.computed.number(gallery)
            last = tried.get(number)
            if last is not None and (not last.ended or last.state != "done"):
                continue
            try:
                if await galleries.run("version", partial(due, gallery)):
                    tried[number] = galleries.jobs.submit(Job("maintain", gallery.name, "write"), work_of(gallery))
            except (VsslError, ApiError) as error:
                logger.info("gallery %s was not looked at for maintenance: %s", gallery.name, error)
