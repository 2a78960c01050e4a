"""A gallery as somebody sees it who may see some of its rows: a filter of their own is part of all that they do.

What they read and delete lies inside the filter. What they write must lie inside it, and so must the rows that it
replaces. Without a filter the view is the gallery.
"""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from vssl_gallery.errors import OutsideFilter
from vssl_gallery.gallery import MAX_IDS, Classification, Gallery
from vssl_gallery.queries import Queries
from vssl_gallery.scoring import Score
from vssl_gallery.store.columns import UNFILTERED
from vssl_gallery.store.contract import Found, Version, Written
from vssl_gallery.store.filters import And, Filter, ids, matches
from vssl_gallery.store.rows import checked, schema

Where = Mapping[str, object] | Filter | None
"""A filter's document, the filter itself, or none."""


class View:
    """The rows of `gallery` that pass `own`. Errors of each method as that of `Gallery` or `Store`.

    Args:
        gallery: threads may share it.
        own: what all is limited to; None for the whole gallery.
    """

    def __init__(self, gallery: Gallery, own: Filter | None = None) -> None:
        self.gallery, self.own = gallery, own

    def parse(self, where: Where) -> Filter | None:
        """That filter, inside of the view's own."""
        given = self.gallery.parse(where)
        if given is None or self.own is None:
            return given or self.own
        return And((self.own, given))

    def rows(self, names: Sequence[str], columns: Sequence[str] = ()) -> pa.Table:
        """See `Gallery.rows`."""
        return self.gallery.rows(names, columns, self.own)

    def queries(self, names: Sequence[str]) -> Queries:
        """See `Gallery.queries`."""
        return self.gallery.queries(names, self.own)

    def search(
        self,
        queries: Queries,
        k: int = 10,
        where: Where = None,
        columns: Sequence[str] = (),
        exact: bool | None = None,
        min_version: Version | None = None,
        score: Score = "cosine",
    ) -> Found:
        """See `Gallery.search`."""
        return self.gallery.search(queries, k, self.parse(where), columns, exact, min_version, score)

    def classify(
        self,
        queries: Queries,
        alpha: float = 0.1,
        risk: float = 0.05,
        where: Where = None,
        min_version: Version | None = None,
    ) -> Classification:
        """See `Gallery.classify`."""
        return self.gallery.classify(queries, alpha, risk, self.parse(where), min_version)

    def scan(self, where: Where = None, columns: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """See `Store.scan`."""
        return self.gallery.store.scan(self.parse(where), columns)

    def page(self, after: str | None, limit: int, where: Where = None, columns: Sequence[str] = ()) -> pa.Table:
        """See `Store.page`."""
        return self.gallery.store.page(after, limit, self.parse(where), columns)

    def count(self, where: Where = None) -> int:
        """See `Store.count`."""
        return self.gallery.store.count(self.parse(where))

    def count_by(self, column: str, where: Where = None) -> dict[str | int | bool | None, int]:
        """See `Store.count_by`."""
        return self.gallery.store.count_by(column, self.parse(where))

    def add(self, rows: pa.Table) -> Written:
        """Put embedded images. See `Store.upsert`.

        Raises:
            OutsideFilter: one of them, or of those that they would replace, is outside the view; none is put.
        """
        if self.own is None:
            return self.gallery.add(rows)
        rows = checked(rows, self.gallery.spec)
        with self.gallery.writing:
            self._check(rows)
            names = rows["id"].to_pylist()
            for start in range(0, len(names), MAX_IDS):
                some = ids(names[start : start + MAX_IDS])
                if self.gallery.store.count(some) != self.count(some):
                    raise OutsideFilter("an id is taken by a row outside your filter; choose other ids")
            return self.gallery.add(rows)

    def change(self, names: Sequence[str], values: Mapping[str, object]) -> Written:
        """Set columns of rows by id; those outside the view are passed over. See `Gallery.change`.

        Raises:
            OutsideFilter: a row would leave the view; none is changed.
        """
        if self.own is None:
            return self.gallery.change(names, values)
        with self.gallery.writing:
            rows = self.gallery.changed(names, values, self.own)
            self._check(rows)
            return self.gallery.add(rows)

    def delete(self, where: Where, dry_run: bool = False) -> Written:
        """See `Gallery.delete`; an empty filter is refused here too."""
        given = self.gallery.parse(where)
        return self.gallery.delete(None if given is None else self.parse(given), dry_run)

    def _check(self, rows: pa.Table) -> None:
        readable = [name for name in schema(self.gallery.spec).names if name not in UNFILTERED]
        for row in rows.select(readable).to_pylist():
            if not matches(self.own, row):
                raise OutsideFilter(f"row {row['id']!r} would be outside your filter; nothing is written")
