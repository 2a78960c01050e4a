"""The steps of a gallery whose store is opened here; a client embeds."""

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from vssl.errors import UsageError
from vssl.uncertainty.calibrated import FLAGS
from vssl_client.exchange.steps import Steps, here
from vssl_client.galleries.answers import (
    Added,
    Classification,
    DuplicateGroup,
    GalleryInfo,
    GalleryMap,
    GalleryNames,
    MappedRow,
    Outlier,
    QueryInfo,
    Row,
    SearchAnswer,
    Written,
    of,
)
from vssl_client.galleries.asked import ClassifyQuery, Item, Query, SearchQuery, Where
from vssl_client.galleries.contract import MapMethod, Means, Page
from vssl_client.galleries.embedded import answering
from vssl_client.galleries.embedded.exporting import export_rows
from vssl_client.galleries.embedded.writing import write_images
from vssl_client.galleries.reading import read_items, read_queries
from vssl_client.results.model_info import ModelInfo
from vssl_gallery.curating import find_duplicates, find_outliers, map_of, pick_next
from vssl_gallery.gallery import Gallery
from vssl_gallery.map import main_directions, tsne
from vssl_gallery.queries import Queries
from vssl_gallery.store import contract
from vssl_gallery.store import snapshot as snapshots
from vssl_gallery.store.columns import FieldType
from vssl_gallery.store.filters import ids as named
from vssl_gallery.store.opening import open_place

PAGE = 1000


class EmbeddedSteps:
    """`GallerySteps` over a store.

    Args:
        name: of the gallery, or an alias.
        at: the place of galleries, as `open_place` takes it. It is opened on first use.
        means: what embeds.
    """

    def __init__(self, name: str, at: str, means: Means) -> None:
        self.name, self.at = name, at
        self._means = means
        self._lock = threading.Lock()
        self._place: contract.Place | None = None
        self._gallery: Gallery | None = None

    @property
    def address(self) -> str:
        """See `GallerySteps`; so for all of them."""
        return self.place().address

    def names(self) -> Steps[GalleryNames]:
        return here(lambda: GalleryNames(self.place().galleries(), self.place().aliases()))

    def create(self, fields: Mapping[str, str], keep_thumbnails: bool) -> Steps[GalleryInfo]:
        """For the embeddings of the client's model."""
        model = yield from self._means.model()
        if model.encoder_id is None:
            raise UsageError("the server does not say of which encoder its model is; it is too old for galleries")
        spec = contract.Spec(
            model.encoder_id,
            model.dimension,
            cast(Mapping[str, FieldType], dict(fields)),  # the gallery checks them
            keep_thumbnails=keep_thumbnails,
            model=model.name,
            model_version=model.version,
            bundle_id=model.id,
        )
        yield from here(lambda: Gallery.create(self.place(), self.name, spec).close())
        return (yield from self.info())

    def drop(self) -> Steps[None]:
        return here(lambda: self.place().drop(self.name))

    def set_alias(self, alias: str, remove: bool = False) -> Steps[None]:
        return here(lambda: self.place().set_alias(alias, None if remove else self.name))

    def info(self) -> Steps[GalleryInfo]:
        return here(self._info)

    def add(self, items: Sequence[Item]) -> Steps[Added]:
        images, added = yield from here(partial(read_items, items, self._means.max_bytes))
        good = [place for place, one in enumerate(added) if one.error is None]
        if not good:
            return Added(None, added)
        precision = (yield from self._check_encoder()).precision
        result = yield from self._means.embed([images[place] for place in good])
        some, data = [items[place] for place in good], [images[place] for place in good]
        ids = [added[place].id for place in good]
        written, told = yield from here(lambda: write_images(self.gallery(), some, ids, data, result, precision))
        for place, one in zip(good, told, strict=True):
            added[place] = one
        return Added(written, added)

    def put(self, rows: pa.Table) -> Steps[Written]:
        return here(lambda: _written(self.gallery().add(rows)))

    def search(self, query: SearchQuery) -> Steps[SearchAnswer]:
        queries, infos, own = yield from self._asked(query)
        return (yield from here(lambda: self._search(query, queries, infos, own)))

    def classify(self, query: ClassifyQuery) -> Steps[Classification]:
        queries, infos, _ = yield from self._asked(query)
        options = (query.alpha, query.risk, query.where, _version(query))
        return (yield from here(lambda: answering.classification(self.gallery().classify(queries, *options), infos)))

    def rows(self, ids: Sequence[str], columns: Sequence[str] | None) -> Steps[list[Row]]:
        return here(lambda: self._rows(ids, columns))

    def page(self, after: str | None, where: Where | None, columns: Sequence[str] | None) -> Steps[Page]:
        return here(lambda: self._page(after, where, columns))

    def change(self, ids: Sequence[str], values: Mapping[str, Any]) -> Steps[Written]:
        return here(lambda: _written(self.gallery().change(ids, values)))

    def delete(self, ids: Sequence[str] | None, where: Where | None, dry_run: bool) -> Steps[Written]:
        meant = named(list(ids)) if ids is not None else where
        return here(lambda: _written(self.gallery().delete(meant, dry_run), dry_run))

    def counts(self, by: str | None, where: Where | None) -> Steps[dict[Any, int]]:
        return here(lambda: self._counts(by, where))

    def duplicates(self, threshold: float) -> Steps[list[DuplicateGroup]]:
        def found() -> list[DuplicateGroup]:
            groups = find_duplicates(self.gallery(), threshold)
            return [DuplicateGroup(one.kept, one.others, min(one.similarity)) for one in groups]

        return here(found)

    def outliers(self, count: int) -> Steps[list[Outlier]]:
        return here(lambda: [of(Outlier, vars(one)) for one in find_outliers(self.gallery(), count)])

    def pick(self, count: int, seed: int) -> Steps[list[str]]:
        return here(lambda: pick_next(self.gallery(), count, seed))

    def map(self, method: MapMethod, progress: contract.Progress) -> Steps[GalleryMap]:
        """`auto` is `pca`: no map of t-SNE is kept here."""

        def made() -> GalleryMap:
            places = map_of(self.gallery(), tsne if method == "tsne" else main_directions)
            rows = zip(places.ids, places.map.places.tolist(), strict=True)
            return GalleryMap(places.map.method, [MappedRow(id, x, y) for id, (x, y) in rows])

        return here(made)

    def calibrate(self, progress: contract.Progress) -> Steps[Mapping[str, Any]]:
        def fitted() -> Mapping[str, Any]:
            record = self.gallery().calibrate()
            measured = {"rows": record.gallery.images, "classes": len(record.classes), **record.gallery.measured}
            return {"version": int(record.version), **measured}

        return here(fitted)

    def maintain(self, progress: contract.Progress) -> Steps[list[str]]:
        return here(lambda: list(self.gallery().store.maintain().actions))

    def snapshot(self, folder: str, progress: contract.Progress) -> Steps[None]:
        yield from here(lambda: snapshots.write_snapshot(self.gallery().store, Path(folder), progress))

    def restore(self, folder: str, progress: contract.Progress) -> Steps[int]:
        def restored() -> int:
            store = snapshots.restore(self.place(), self.name, Path(folder), progress)
            rows = store.info().rows
            store.close()
            return rows

        return here(restored)

    def export(self, out: Path, where: Where | None) -> Steps[int]:
        return here(lambda: export_rows(self.gallery(), out, where))

    def close(self) -> None:
        """Let go of files and connections."""
        with self._lock:
            for opened in (self._gallery, self._place):
                if opened is not None:
                    opened.close()
            self._gallery = self._place = None

    def place(self) -> contract.Place:
        """Where it lies."""
        with self._lock:
            if self._place is None:
                self._place = open_place(self.at)
            return self._place

    def gallery(self) -> Gallery:
        """The gallery, opened on first use."""
        place = self.place()
        with self._lock:
            if self._gallery is None:
                self._gallery = Gallery(place.open(self.name))
            return self._gallery

    def _check_encoder(self) -> Steps[ModelInfo]:
        """The client's model, which is of the gallery's encoder."""
        gallery = yield from here(self.gallery)
        model = yield from self._means.model()
        if model.encoder_id is None:
            raise UsageError("the server does not say of which encoder its model is; it is too old for galleries")
        gallery.check_encoder(model.encoder_id)
        return model

    def _asked(self, query: Query) -> Steps[tuple[Queries, list[QueryInfo], list[str | None]]]:
        """The queries, what is known of each, and the row that each one is."""
        if query.images is not None or query.image is not None:
            yield from self._check_encoder()
            images = yield from here(partial(read_queries, query.snapshots(), self._means.max_bytes))
            result = yield from self._means.embed(images)
            return answering.queries_of(result, images), answering.infos_of_result(result), [None] * len(images)
        if (vectors := query.arrays()) is not None:
            known = None if query.uncertainty is None else np.array([query.uncertainty])
            infos = [QueryInfo(uncertainty=query.uncertainty)] * len(vectors)
            return Queries(vectors, known), infos, [None] * len(vectors)
        return (yield from here(lambda: self._asked_by_id(query.names())))

    def _asked_by_id(self, ids: list[str]) -> tuple[Queries, list[QueryInfo], list[str | None]]:
        gallery = self.gallery()
        queries = gallery.queries(ids)
        rows = self._rows(ids, [*answering.NUMBERS, *FLAGS])
        return queries, answering.infos_of_rows(rows), [*ids]

    def _search(
        self, query: SearchQuery, queries: Queries, infos: Sequence[QueryInfo], own: Sequence[str | None]
    ) -> SearchAnswer:
        gallery = self.gallery()
        extra = query.exclude_self and any(own)
        found = gallery.search(
            queries,
            query.k + int(extra),
            query.where,
            answering.columns_of(gallery.spec, query.columns),
            query.exact,
            _version(query),
            query.score,
        )
        leave_out = own if extra else [None] * len(own)
        return answering.search_answer(found, infos, gallery.spec, leave_out, query.k)

    def _info(self) -> GalleryInfo:
        gallery = self.gallery()
        aliases = [alias for alias, name in self.place().aliases().items() if name == gallery.name]
        return answering.info_of(gallery, aliases, served=True)

    def _rows(self, ids: Sequence[str], columns: Sequence[str] | None) -> list[Row]:
        gallery = self.gallery()
        return answering.rows_of(gallery.rows(ids, answering.columns_of(gallery.spec, columns)), gallery.spec)

    def _page(self, after: str | None, where: Where | None, columns: Sequence[str] | None) -> Page:
        gallery = self.gallery()
        wanted = answering.columns_of(gallery.spec, columns)
        rows = answering.rows_of(gallery.store.page(after, PAGE, gallery.parse(where), wanted), gallery.spec)
        return Page(rows, rows[-1].id if len(rows) == PAGE else None)

    def _counts(self, by: str | None, where: Where | None) -> dict[Any, int]:
        gallery = self.gallery()
        if by is None:
            return {None: gallery.store.count(gallery.parse(where))}
        found = gallery.store.count_by(by, gallery.parse(where))
        return dict(sorted(found.items(), key=lambda pair: -pair[1])[:1000])


def _written(done: contract.Written, dry_run: bool = False) -> Written:
    return Written(int(done.version), done.rows, dry_run)


def _version(query: Query) -> contract.Version | None:
    return None if query.min_version is None else contract.Version(query.min_version)
