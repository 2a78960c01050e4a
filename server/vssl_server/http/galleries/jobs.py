"""Jobs on galleries: what starts them, and how one asks about them and stops them."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from vssl.errors import UsageError
from vssl_gallery.curating import map_of
from vssl_gallery.gallery import Gallery
from vssl_gallery.importing import import_parts
from vssl_gallery.map import tsne
from vssl_gallery.store.columns import check_gallery_name
from vssl_gallery.store.snapshot import restore, write_snapshot
from vssl_gallery.view import View
from vssl_server.access.galleries import Need, administers, may, refuse_filtered
from vssl_server.access.keys import ADMIN, Key
from vssl_server.background.jobs import Job, Jobs, Kind, Report, Work, unknown_job
from vssl_server.http.exchange import json_response
from vssl_server.http.galleries import schema
from vssl_server.http.galleries.curating import size_of_map, tsne_key
from vssl_server.http.galleries.galleries import Galleries
from vssl_server.http.galleries.upkeep import work_of
from vssl_server.http.galleries.viewed import answering, body_of, galleries_of, key_of, open_gallery, view_of
from vssl_server.settings import Settings
from vssl_server.wire.errors import ApiError
from vssl_server.wire.json_body import check


async def list_jobs(request: Request) -> Response:
    """The jobs that the key may see, the newest first."""
    jobs = galleries_of(request).jobs
    return json_response({"data": [job.document() for job in jobs.all() if sees(key_of(request), job)]})


async def show_job(request: Request, id: str) -> Response:
    """One job."""
    return json_response(_job(request, id).document())


async def cancel_job(request: Request, id: str) -> Response:
    """Ask a job to stop: one that waits never begins, one that runs stops at its next step if it has steps."""
    job, key = _job(request, id), key_of(request)
    if not administers(key) and job.need not in may(key, job.gallery):
        raise ApiError(403, "missing_scope", f"this API key may not do that: it lacks the scope {job.need}")
    galleries_of(request).jobs.cancel(job)
    return json_response(job.document())


async def calibrate(request: Request, name: str) -> Response:
    """Fit the gallery's calibration on its own labelled rows."""
    view = await _whole(request, name, "all labelled rows take part in a calibration")
    return _begun(request, "calibrate", view.gallery.name, "write", lambda _: calibrated(view.gallery))


async def maintain(request: Request, name: str) -> Response:
    """Compact the gallery, bring its index up to date, erase what was deleted an hour ago or earlier."""
    view = await _whole(request, name, "maintenance is of the whole gallery")
    return _begun(request, "maintain", view.gallery.name, "write", work_of(view.gallery))


async def draw_map(request: Request, name: str) -> Response:
    """Make a map by t-SNE, which takes minutes; `GET …/map` shows it."""
    check(schema.NoBody, await body_of(request, nulls=True))
    async with answering(request):
        view = await view_of(request, name, "search")
    return _begun(request, "map", view.gallery.name, "search", partial(drawn, galleries_of(request), view))


async def snapshot(request: Request, name: str) -> Response:
    """Write the gallery to a new folder of Parquet files with the hash of each."""
    folder, gallery = await _administered(request, name)
    assert gallery is not None

    def work(report: Report) -> Mapping[str, Any]:
        manifest = write_snapshot(gallery.store, folder, report)
        return {"path": str(folder), "rows": manifest.rows, "version": manifest.version}

    return _begun(request, "snapshot", gallery.name, ADMIN, work)


async def restore_gallery(request: Request, name: str) -> Response:
    """A new gallery from a snapshot."""
    check_gallery_name(name)
    folder, _ = await _administered(request, name, there=False)
    galleries = galleries_of(request)

    def work(report: Report) -> Mapping[str, Any]:
        store = restore(galleries.place(), name, folder, report)
        galleries.forget(name)
        return {"rows": store.count(), "version": store.version()}

    return _begun(request, "restore", name, ADMIN, work)


async def import_folder(request: Request, name: str) -> Response:
    """Put the embeddings of a folder that `vssl embed` wrote, without embedding again."""
    folder, gallery = await _administered(request, name)
    assert gallery is not None

    def work(report: Report) -> Mapping[str, Any]:
        parts = sorted(folder.glob("part-*.parquet"))
        if not parts:
            raise UsageError(f"{folder}: holds no Parquet files of embeddings; `vssl embed` writes them")
        rows, failed = import_parts(parts, gallery, report)
        return {"rows": rows, "failed": failed, "version": gallery.store.version()}

    return _begun(request, "import", gallery.name, ADMIN, work)


def calibrated(gallery: Gallery) -> Mapping[str, Any]:
    """The work of a calibration."""
    record = gallery.calibrate()
    measured = {"rows": record.gallery.images, "classes": len(record.classes), **record.gallery.measured}
    return {"version": record.version, **measured}


def drawn(galleries: Galleries, view: View, report: Report) -> Mapping[str, Any]:
    """The work of a map, which is kept in memory."""
    version = view.gallery.store.version()
    made = map_of(view.gallery, partial(tsne, progress=report), view.own)
    galleries.computed.put(tsne_key(galleries, view), version, made, size_of_map(made))
    mapped = int(made.map.mapped.sum())
    return {"method": made.map.method, "rows": len(made.ids), "mapped": mapped, "version": version}


def sees(key: Key, job: Job) -> bool:
    """Whether the key may see the job: one of a gallery that it may see, and no tenant that of another."""
    if administers(key):
        return True
    return bool(may(key, job.gallery)) and (key.filter is None or job.own == owner(key))


def owner(key: Key) -> bytes | None:
    """What tells tenants apart: the key's filter."""
    return None if key.filter is None else orjson.dumps(key.filter, option=orjson.OPT_SORT_KEYS)


def inside(root: Path | None, path: str) -> Path:
    """The folder that a path means under the root.

    Raises:
        ApiError: 403, there is no root, or the path leads out of it.
    """
    if root is None:
        raise ApiError(403, "path_not_allowed", "start the server with --snapshot-root to do this", "path")
    try:
        base = root.resolve()
        found = (base / path).resolve()
    except (OSError, ValueError):
        found = base = root
    if found == base or not found.is_relative_to(base):
        raise ApiError(403, "path_not_allowed", "path: must lead to a folder under --snapshot-root", "path")
    return found


def _job(request: Request, id: str) -> Job:
    job = galleries_of(request).jobs.get(id)
    if not sees(key_of(request), job):
        raise unknown_job(id)
    return job


def _begun(request: Request, kind: Kind, gallery: str, need: str, work: Work) -> Response:
    jobs: Jobs = galleries_of(request).jobs
    job = jobs.submit(Job(kind, gallery, need, owner(key_of(request))), work)
    response = json_response({"job": job.document()}, 202)
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/jobs/{job.id}"
    return response


async def _whole(request: Request, name: str, what: str, need: Need = "write") -> View:
    check(schema.NoBody, await body_of(request, nulls=True))
    async with answering(request):
        view = await view_of(request, name, need)
    refuse_filtered(key_of(request), what)
    return view


async def _administered(request: Request, name: str, there: bool = True) -> tuple[Path, Gallery | None]:
    """The folder and the gallery of a job whose scope `admin` was checked before."""
    wanted = check(schema.PathBody, await body_of(request))
    refuse_filtered(key_of(request), "this is of the whole gallery")
    settings: Settings = request.app.state.registry.settings
    async with answering(request):
        gallery = await open_gallery(request, name) if there else None
    return inside(settings.snapshot_root, wanted.path), gallery


def add_routes(app: FastAPI) -> None:
    """Put the routes on the application."""
    app.get("/v1/jobs", **schema.route("The jobs on galleries", schema.JobList))(list_jobs)
    app.get("/v1/jobs/{id}", **schema.route("One job", schema.Job))(show_job)
    app.delete("/v1/jobs/{id}", **schema.route("Ask a job to stop", schema.Job))(cancel_job)
    starts: dict[str, tuple[str, Callable[[Request, str], Awaitable[Response]], type[BaseModel]]] = {
        "calibrate": ("Fit the calibration of a gallery", calibrate, schema.NoBody),
        "maintain": ("Compact and index a gallery", maintain, schema.NoBody),
        "map": ("Make a map by t-SNE", draw_map, schema.NoBody),
        "snapshots": ("Write a snapshot", snapshot, schema.PathBody),
        "restore": ("Make a gallery from a snapshot", restore_gallery, schema.PathBody),
        "import": ("Put a folder of embeddings", import_folder, schema.PathBody),
    }
    for path, (summary, endpoint, body) in starts.items():
        app.post(f"/v1/galleries/{{name}}/{path}", **schema.route(summary, schema.JobBegun, 202, body))(endpoint)
