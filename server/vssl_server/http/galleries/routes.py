"""The galleries themselves, and their aliases: list, create, drop."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from vssl_gallery.errors import GalleryExists
from vssl_gallery.gallery import Gallery
from vssl_gallery.store.columns import check_gallery_name
from vssl_gallery.store.contract import Spec
from vssl_gallery.view import View
from vssl_server.access.galleries import may, outside_filter, own_filter, refuse_filtered, require, visible
from vssl_server.engine.model import Model
from vssl_server.http.exchange import json_response
from vssl_server.http.galleries import schema
from vssl_server.http.galleries.described import fits, gallery_info
from vssl_server.http.galleries.galleries import Galleries
from vssl_server.http.galleries.viewed import answering, body_of, galleries_of, key_of, open_gallery, view_of
from vssl_server.models.registry import ModelRegistry
from vssl_server.wire.errors import ApiError
from vssl_server.wire.json_body import check


async def list_galleries(request: Request) -> Response:
    """Those that the key may see, by name."""
    key, galleries = key_of(request), galleries_of(request)
    async with answering(request):
        names = await galleries.run("list", lambda: galleries.place().galleries())
        views = await _seen(request, names)
        aliases = await galleries.run("aliases", lambda: galleries.place().aliases())
        served = _served(request)
        data = [
            await galleries.run("info", partial(gallery_info, view, key, aliases, served)) for view in views.values()
        ]
    return json_response({"data": data, "next": None})


async def show_gallery(request: Request, name: str) -> Response:
    """One gallery, by its name or an alias."""
    async with answering(request):
        return json_response(await _info(request, await view_of(request, name, "search")))


async def create_gallery(request: Request, name: str) -> Response:
    """A new gallery; the same once more does nothing."""
    key, galleries = key_of(request), galleries_of(request)
    wanted = check(schema.NewGallery, await body_of(request))
    check_gallery_name(name)
    require(key, name, "write")
    registry: ModelRegistry = request.app.state.registry
    spec = _spec(registry.model(wanted.model), wanted)
    try:
        own_filter(key, name, spec.fields)
    except ApiError:
        raise outside_filter("it names fields that this gallery would not have; declare them") from None
    async with answering(request):
        try:
            made, status = await galleries.run("create", partial(galleries.create, name, spec)), 201
        except GalleryExists:
            made, status = await open_gallery(request, name), 200
            if made.name != name or not fits(made, spec.encoder_id, spec.fields, spec.keep_thumbnails):
                raise
        view = View(made, own_filter(key, name, made.spec.fields))
        return json_response(await _info(request, view), status)


async def drop_gallery(request: Request, name: str) -> Response:
    """Remove a gallery with all that it holds, by its own name."""
    key, galleries = key_of(request), galleries_of(request)
    async with answering(request):
        view = await view_of(request, name, "write")
        refuse_filtered(key, "dropping a gallery takes all rows")
        if view.gallery.name != name:
            raise ApiError(409, "is_alias", f"{name} is an alias of {view.gallery.name}; DELETE /v1/aliases/{name}")
        rows = await galleries.run("drop", partial(_drop, galleries, view.gallery))
    return json_response({"rows": rows})


async def list_aliases(request: Request) -> Response:
    """The aliases of galleries that the key may see."""
    galleries = galleries_of(request)
    async with answering(request):
        known = await galleries.run("aliases", lambda: galleries.place().aliases())
        seen = await _seen(request, set(known.values()))
    data = [{"alias": alias, "gallery": name} for alias, name in sorted(known.items()) if name in seen]
    return json_response({"data": data, "next": None})


async def set_alias(request: Request, name: str) -> Response:
    """Let an alias mean a gallery from now on, in one step."""
    wanted = check(schema.AliasTarget, await body_of(request))
    async with answering(request):
        view = await view_of(request, wanted.gallery, "write")
        await _move_alias(request, name, view.gallery.name)
    return json_response({"alias": name, "gallery": view.gallery.name})


async def remove_alias(request: Request, name: str) -> Response:
    """Remove an alias; its gallery stays."""
    key, galleries = key_of(request), galleries_of(request)
    async with answering(request):
        known = await galleries.run("aliases", lambda: galleries.place().aliases())
        if name not in known or not may(key, known[name]):
            raise ApiError(404, "unknown_alias", f"no alias {name!r} for this key; GET /v1/aliases lists them")
        require(key, known[name], "write")
        await _move_alias(request, name, None)
    return json_response({"alias": name})


async def _seen(request: Request, names: Iterable[str]) -> dict[str, View]:
    """What the key may see of these galleries, without those of which it sees nothing, or that are gone by now."""
    views = {}
    for name in visible(key_of(request), names):
        try:
            views[name] = await view_of(request, name, may(key_of(request), name)[0])
        except ApiError as error:
            if error.status != 404:
                raise
    return views


async def _move_alias(request: Request, alias: str, target: str | None) -> None:
    key, galleries = key_of(request), galleries_of(request)
    check_gallery_name(alias)
    require(key, alias, "write")
    refuse_filtered(key, "an alias is everybody's")
    await galleries.run("alias", lambda: galleries.place().set_alias(alias, target))
    galleries.forget(alias)


async def _info(request: Request, view: View) -> dict[str, Any]:
    key, galleries, served = key_of(request), galleries_of(request), _served(request)

    def described() -> dict[str, Any]:
        return gallery_info(view, key, galleries.place().aliases(), served)

    return await galleries.run("info", described)


def _served(request: Request) -> list[str]:
    registry: ModelRegistry = request.app.state.registry
    return [model.manifest.encoder_id for model in registry.models]


def _spec(model: Model, wanted: schema.NewGallery) -> Spec:
    manifest = model.manifest
    return Spec(
        encoder_id=manifest.encoder_id,
        dimension=manifest.outputs.dimension,
        fields=wanted.fields,
        keep_thumbnails=wanted.keep_thumbnails,
        model=manifest.name,
        model_version=manifest.version,
        bundle_id=manifest.id,
    )


def _drop(galleries: Galleries, gallery: Gallery) -> int:
    rows = gallery.store.count()
    galleries.place().drop(gallery.name)
    galleries.forget(gallery.name)
    return rows


def add_routes(app: FastAPI) -> None:
    """Put the routes on the application."""
    one, alias = "/v1/galleries/{name}", "/v1/aliases/{name}"
    said: Callable[..., dict[str, Any]] = schema.route
    app.get("/v1/galleries", **said("The galleries", schema.GalleryList))(list_galleries)
    app.get(one, **said("One gallery", schema.GalleryInfo))(show_gallery)
    app.put(one, **schema.CREATE)(create_gallery)
    app.delete(one, **said("Drop a gallery", schema.Rows))(drop_gallery)
    app.get("/v1/aliases", **said("The aliases", schema.AliasList))(list_aliases)
    app.put(alias, **said("Set an alias", schema.Alias, body=schema.AliasTarget))(set_alias)
    app.delete(alias, **said("Remove an alias", schema.AliasName))(remove_alias)
