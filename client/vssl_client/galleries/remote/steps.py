"""The steps of a gallery at a server. What may be repeated is; what is written by id may."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from vssl.errors import UsageError
from vssl.files import atomic_write
from vssl_client.errors import ImageRejected, RequestRejected
from vssl_client.exchange.calls import Call
from vssl_client.exchange.servers import Servers
from vssl_client.exchange.steps import Steps, here
from vssl_client.galleries.answers import (
    Added,
    Classification,
    DuplicateGroup,
    GalleryInfo,
    GalleryMap,
    GalleryNames,
    Outlier,
    Row,
    SearchAnswer,
    Written,
    of,
)
from vssl_client.galleries.asked import ClassifyQuery, Item, Query, SearchQuery, Where
from vssl_client.galleries.contract import MapMethod, Page
from vssl_client.galleries.reading import read_items, read_queries
from vssl_client.galleries.remote import wire
from vssl_client.galleries.remote.asking import PAGE, Requests, read, short
from vssl_gallery.errors import TooLarge
from vssl_gallery.store.contract import Progress

if TYPE_CHECKING:
    import pyarrow as pa

ARROW = "application/vnd.apache.arrow.stream"


class RemoteSteps(Requests):
    """`GallerySteps` at one server. Errors of galleries have the type of their code, as in this process.

    Args:
        name: of the gallery, or an alias.
        address: of the server, without a password.
        servers: that one.
        retries: of a request that may be repeated.
        max_bytes: of the largest image file to read.
    """

    def __init__(self, name: str, address: str, servers: Servers, retries: int, max_bytes: int) -> None:
        super().__init__(f"/v1/galleries/{quote(name, safe='')}", servers, retries)
        self.name, self.address = name, address
        self._max_bytes = max_bytes

    def names(self) -> Steps[GalleryNames]:
        """See `GallerySteps`; so for all of them."""
        galleries = yield from self.all("/v1/galleries")
        aliases = yield from self.all("/v1/aliases")
        return read(lambda: _names(galleries, aliases))

    def create(self, fields: Mapping[str, str], keep_thumbnails: bool) -> Steps[GalleryInfo]:
        """The server's first model is its encoder."""
        answer = yield from self.ask("PUT", "", {"fields": dict(fields), "keep_thumbnails": keep_thumbnails})
        return read(lambda: of(GalleryInfo, answer))

    def drop(self) -> Steps[None]:
        yield from self.ask("DELETE", "", repeatable=False)

    def set_alias(self, alias: str, remove: bool = False) -> Steps[None]:
        path = f"/v1/aliases/{quote(alias, safe='')}"
        if remove:
            yield from self.send(Call("DELETE", path, repeatable=False))
        else:
            yield from self.send(Call("PUT", path, body=wire.as_body({"gallery": self.name})))

    def info(self) -> Steps[GalleryInfo]:
        answer = yield from self.ask("GET", "")
        return read(lambda: of(GalleryInfo, answer))

    def add(self, items: Sequence[Item]) -> Steps[Added]:
        images, added = yield from here(partial(read_items, items, self._max_bytes))
        good = [place for place, one in enumerate(added) if one.error is None]
        if not good:
            return Added(None, added)
        some = [items[place] for place in good]
        answer = yield from self._add(some, [images[place] for place in good], [added[place].id for place in good])
        for place, one in zip(good, answer.images, strict=True):
            added[place] = one
        return Added(answer.version, added)

    def _add(self, items: Sequence[Item], images: Sequence[bytes], ids: Sequence[str]) -> Steps[Added]:
        """In one request, or in several where the server finds it too large."""
        body, kind = yield from here(partial(wire.images_body, items, images, ids))
        params = {"on_error": "return"}
        try:
            answer = yield from self.json(Call("POST", f"{self.path}/images", params, body, kind))
        except (RequestRejected, TooLarge) as error:
            if error.status != 413 or len(items) == 1:
                raise
            half = len(items) // 2
            first = yield from self._add(items[:half], images[:half], ids[:half])
            second = yield from self._add(items[half:], images[half:], ids[half:])
            return Added(second.version or first.version, [*first.images, *second.images])
        return read(lambda: wire.read_added(answer, items, ids))

    def put(self, rows: "pa.Table") -> Steps[Written]:
        body = yield from here(partial(_arrow, rows))
        answer = yield from self.json(Call("POST", f"{self.path}/rows", body=body, content_type=ARROW))
        return read(lambda: of(Written, answer))

    def search(self, query: SearchQuery) -> Steps[SearchAnswer]:
        answer = yield from self._query("/search", query)
        return read(lambda: wire.read_search(answer))

    def classify(self, query: ClassifyQuery) -> Steps[Classification]:
        answer = yield from self._query("/classify", query)
        return read(lambda: wire.read_classification(answer))

    def _query(self, path: str, query: Query) -> Steps[Any]:
        images = yield from here(partial(read_queries, query.snapshots(), self._max_bytes))
        try:
            return (yield from self.ask("POST", path, wire.query_body(query, images)))
        except RequestRejected as error:
            if error.code == "invalid_image":
                raise ImageRejected(error.code, str(error)) from error
            raise

    def rows(self, ids: Sequence[str], columns: Sequence[str] | None) -> Steps[list[Row]]:
        found: dict[str, Row] = {}
        for some in short(ids):
            page = yield from self.page(None, {"id": {"$in": some}}, columns)
            found |= {row.id: row for row in page.rows}
        return [found[id] for id in ids if id in found]

    def page(self, after: str | None, where: Where | None, columns: Sequence[str] | None) -> Steps[Page]:
        params = {"limit": str(PAGE), **_filter(where)}
        if columns is not None:
            params["columns"] = ",".join(columns) or "id"
        if after is not None:
            params["after"] = after
        answer = yield from self.ask("GET", "/images", params=params)
        return read(lambda: Page([Row.of(row) for row in answer["data"]], answer["next"]))

    def change(self, ids: Sequence[str], values: Mapping[str, Any]) -> Steps[Written]:
        own = {name: value for name, value in values.items() if name != "label"}
        body = {"ids": list(ids), **({"label": values["label"]} if "label" in values else {})}
        answer = yield from self.ask("PATCH", "/images", {**body, **({"fields": own} if own else {})})
        return read(lambda: of(Written, answer))

    def delete(self, ids: Sequence[str] | None, where: Where | None, dry_run: bool) -> Steps[Written]:
        body = {"ids": list(ids)} if ids is not None else {"filter": where}
        answer = yield from self.ask("POST", "/delete", {**body, "dry_run": dry_run}, repeatable=dry_run)
        return read(lambda: of(Written, answer))

    def counts(self, by: str | None, where: Where | None) -> Steps[dict[Any, int]]:
        answer = yield from self.ask("GET", "/counts", params={**({"by": by} if by else {}), **_filter(where)})
        if by is None:
            return read(lambda: {None: int(answer["rows"])})
        return read(lambda: {row["value"]: int(row["rows"]) for row in answer["data"]})

    def duplicates(self, threshold: float) -> Steps[list[DuplicateGroup]]:
        rows = yield from self.all(f"{self.path}/duplicates", {"threshold": f"{threshold:g}"})
        return read(lambda: [of(DuplicateGroup, row) for row in rows])

    def outliers(self, count: int) -> Steps[list[Outlier]]:
        answer = yield from self.ask("GET", "/outliers", params={"limit": str(count)})
        return read(lambda: [of(Outlier, row) for row in answer["data"]])

    def pick(self, count: int, seed: int) -> Steps[list[str]]:
        answer = yield from self.ask("GET", "/pick", params={"n": str(count), "seed": str(seed)})
        return read(lambda: [str(id) for id in answer["data"]])

    def map(self, method: MapMethod, progress: Progress) -> Steps[GalleryMap]:
        if method == "tsne":
            yield from self.job("/map", {}, progress)
        body = yield from self.send(Call("GET", f"{self.path}/map", {"method": method}))
        return read(lambda: GalleryMap.of_blocks(body))

    def calibrate(self, progress: Progress) -> Steps[Mapping[str, Any]]:
        return (yield from self.job("/calibrate", None, progress))

    def maintain(self, progress: Progress) -> Steps[list[str]]:
        result = yield from self.job("/maintain", None, progress)
        return [str(line) for line in result.get("actions", ())]

    def snapshot(self, folder: str, progress: Progress) -> Steps[None]:
        """The folder is the server's."""
        yield from self.job("/snapshots", {"path": folder}, progress)

    def restore(self, folder: str, progress: Progress) -> Steps[int]:
        """The folder is the server's."""
        result = yield from self.job("/restore", {"path": folder}, progress)
        return int(result.get("rows", 0))

    def export(self, out: Path, where: Where | None) -> Steps[int]:
        kind = out.suffix.lower().removeprefix(".")
        if kind not in ("csv", "parquet"):
            raise UsageError(f"{out}: name a file that ends in .csv or .parquet")
        rows = yield from self.counts(None, where)
        with atomic_write(out) as file:
            params = {"format": kind, **_filter(where)}
            yield from self.send(Call("GET", f"{self.path}/export", params, repeatable=False, sink=file.write))
        return rows[None]

    def close(self) -> None:
        """Nothing: the client has the connections."""


def _names(galleries: list[Any], aliases: list[Any]) -> GalleryNames:
    return GalleryNames(
        [str(one["name"]) for one in galleries], {str(one["alias"]): str(one["gallery"]) for one in aliases}
    )


def _filter(where: Where | None) -> dict[str, str]:
    return {} if where is None else {"filter": wire.as_body(where).decode()}


def _arrow(rows: "pa.Table") -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]
