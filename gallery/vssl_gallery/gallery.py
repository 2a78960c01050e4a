"""A gallery: a store's rows, the encoder they belong to, and what may be said of a query to them.

with open_place("galleries") as place:
    shoes = Gallery(place.open("shoes"))
    shoes.search(queries, k=10, where={"year": {"$gte": 2020}})
    shoes.classify(queries)
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vssl.arrays import Float32s
from vssl.errors import UsageError
from vssl.search.nearest import NEIGHBOURS
from vssl_gallery.classifying import STALE, CalibrationRecord, Classified, Reason, classify, fit, read_calibration
from vssl_gallery.errors import InvalidRows, TooLarge
from vssl_gallery.exact import ExactSearch
from vssl_gallery.fingerprint import Fingerprint, LabelledRows
from vssl_gallery.queries import Queries
from vssl_gallery.scoring import NEEDED, Score, candidates, ranked
from vssl_gallery.store.columns import MAX_NAME_BYTES
from vssl_gallery.store.contract import Found, Place, Spec, Store, StoreInfo, Version, Written
from vssl_gallery.store.filters import And, Exists, Filter, ids, parse_filter
from vssl_gallery.store.rows import schema, vectors

CALIBRATION = "calibration"
"""The record of a gallery's calibration."""

MAX_IDS = 10_000
"""Ids that one call may name."""

MAX_K = 1_000
LABELLED = Exists("label", "text")

COUNTED = 16
"""Filters whose count is remembered: of the labelled rows, and of what each of a few keys may see."""


@dataclass(frozen=True)
class Classification:
    """What a gallery says of Q queries; `calibration` is `fitted`, or why there is none."""

    answers: list[Classified]
    version: Version
    exact: bool
    calibration: str


class Gallery:
    """One gallery. Threads may share it; `close` it in the end.

    Args:
        store: its rows.
        encoder_id: of the encoder that will be asked for embeddings, if it is known.

    Raises:
        EncoderMismatch: the rows are of another one.
    """

    def __init__(self, store: Store, encoder_id: str | None = None) -> None:
        self.store, self.name, self.spec = store, store.name, store.spec
        self.exact = ExactSearch(store)
        self.writing = threading.RLock()
        """Held by every write: who reads rows to write them again must not undo what came between."""
        self._labelled = LabelledRows(store, LABELLED)
        self._counts: dict[Filter | None, tuple[Version, int]] = {}
        self._judged: tuple[str, Version, CalibrationRecord, bool] | None = None
        if encoder_id is not None:
            self.check_encoder(encoder_id)

    @classmethod
    def create(cls, place: Place, name: str, spec: Spec) -> "Gallery":
        """A new, empty one. Errors as `Place.create`."""
        return cls(place.create(name, spec))

    def check_encoder(self, encoder_id: str) -> None:
        """See `Spec.check_encoder`."""
        self.spec.check_encoder(encoder_id, self.name)

    def info(self) -> StoreInfo:
        """Its state now."""
        return self.store.info()

    def count(self, where: Filter | None) -> int:
        """How many rows match now. They are counted again only after a write, by the filters that were asked last."""
        known, version = self._counts.get(where), self.store.version()
        if known is None or known[0] != version:
            known = version, self.store.count(where)  # perhaps of a later version; then the next call counts again
        others = [(other, one) for other, one in self._counts.items() if other != where]
        self._counts = dict([*others[1 - COUNTED :], (where, known)])
        return known[1]

    def add(self, rows: pa.Table) -> Written:
        """Put embedded images, each in place of the one that has its id. See `Store.upsert`."""
        with self.writing:
            return self.store.upsert(rows)

    def delete(self, where: Mapping[str, object] | Filter | None, dry_run: bool = False) -> Written:
        """Delete the rows that match, or count them; `{}` is refused, since it would mean all.

        Raises:
            UsageError: the filter is empty.
            InvalidFilter: it is not valid.
        """
        parsed = self.parse(where)
        if parsed is None:
            raise UsageError("delete: an empty filter would delete every row; name what to delete, or drop the gallery")
        if dry_run:
            return Written(self.store.version(), self.store.count(parsed))
        with self.writing:
            return self.store.delete(parsed)

    def change(self, names: Sequence[str], values: Mapping[str, object]) -> Written:
        """Set columns of rows by id, such as `{"label": "boot"}`; None empties one. Rows that are not there are passed
        over: `Written.rows` counts those that were.

        Raises:
            InvalidRows: a column that can't be changed so, or a value of another type.
        """
        with self.writing:
            return self.store.upsert(self.changed(names, values))

    def changed(self, names: Sequence[str], values: Mapping[str, object], where: Filter | None = None) -> pa.Table:
        """The rows as `change` would write them, of those that match `where`. Errors as `change`."""
        fixed = {"id", "path", "embedding", "variance", "added_at"}
        for column in values:
            if column in fixed or column not in schema(self.spec).names:
                raise InvalidRows(f"column {column!r} can't be changed; it is fixed, or none of this gallery's")
        rows = self.rows(names, [name for name in schema(self.spec).names if name != "id"], where)
        for column, value in values.items():
            place, field = rows.column_names.index(column), schema(self.spec).field(column)
            try:
                filled = pa.array([value] * rows.num_rows, field.type)
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                raise InvalidRows(f"column {column!r} holds {field.type}, not {value!r}") from None
            rows = rows.set_column(place, column, filled)
        return rows

    def rows(self, names: Sequence[str], columns: Sequence[str] = (), where: Filter | None = None) -> pa.Table:
        """Rows by id, in the order of `names`; without those that are not there, or don't match `where`.

        Raises:
            TooLarge: too many ids.
        """
        if len(names) > MAX_IDS:
            raise TooLarge(f"{len(names):,} ids: at most {MAX_IDS:,} in one call")
        wanted = [name for name in names if len(name.encode()) <= MAX_NAME_BYTES]
        meant: Filter = ids(wanted) if where is None else And((where, ids(wanted)))
        columns = [name for name in columns if name != "id"]
        stored = schema(self.spec)
        empty = pa.schema([stored.field(name) for name in ("id", *columns)])
        batches: Iterator[pa.RecordBatch] = self.store.scan(meant, columns) if wanted else iter(())
        found = pa.Table.from_batches([batch.select(empty.names).cast(empty) for batch in batches], schema=empty)
        places = {name: place for place, name in enumerate(found["id"].to_pylist())}
        return found.take(pa.array([places[name] for name in wanted if name in places], pa.int64()))

    def queries(self, names: Sequence[str], where: Filter | None = None) -> Queries:
        """Rows of the gallery as queries, of those that match `where`.

        Raises:
            InvalidRows: an id that is not there.
        """
        known = ["embedding", "variance", "uncertainty", "ood", "unfamiliar", "sha256"]
        rows = self.rows(names, known, where)
        missing = set(names) - set(rows["id"].to_pylist())
        if missing:
            raise InvalidRows(f"id {min(missing)!r}: no such row in gallery {self.name}")
        whole = {name: not rows[name].null_count for name in known}
        return Queries(
            vectors(rows["embedding"]),
            rows["uncertainty"].to_numpy() if whole["uncertainty"] else None,
            vectors(rows["variance"]) if whole["variance"] else None,
            rows["ood"].to_numpy() if whole["ood"] else None,
            rows["unfamiliar"].to_numpy() if whole["unfamiliar"] else None,
            rows["sha256"].to_pylist() if whole["sha256"] else list(names),
        )

    def search(
        self,
        queries: Queries,
        k: int = 10,
        where: Mapping[str, object] | Filter | None = None,
        columns: Sequence[str] = (),
        exact: bool | None = None,
        min_version: Version | None = None,
        score: Score = "cosine",
    ) -> Found:
        """The k nearest rows of each query; see `ExactSearch.search`. Other scores than the cosine rank the 200 most
        similar again, and add the column `score`.

        Raises:
            UsageError: k or the score is out of bounds; the score needs a variance that the queries lack.
            InvalidRows, InvalidFilter, VersionUnknown: the queries, filter or version.
        """
        if not 1 <= k <= MAX_K:
            raise UsageError(f"k is {k}: take 1 to {MAX_K:,}")
        if min_version is not None:
            self.store.reach(min_version)
        wanted = list(columns) if score == "cosine" else [*dict.fromkeys((*columns, *NEEDED))]
        found = self.exact.search(queries.embedding, candidates(k, score), self.parse(where), wanted, exact)
        if score == "cosine":
            return found
        best = ranked(found, queries, k, score)
        kept = [name for name in best.rows.column_names if name not in NEEDED or name in columns]
        return Found(best.rows.select(kept), best.version, best.exact)

    def classify(
        self,
        queries: Queries,
        alpha: float = 0.1,
        risk: float = 0.05,
        where: Mapping[str, object] | Filter | None = None,
        min_version: Version | None = None,
    ) -> Classification:
        """Label queries by their nearest labelled rows, or abstain; `classifying.Classified` says what it means.

        Raises:
            UsageError: the calibration has no such alpha or risk.
            InvalidRows, InvalidFilter, VersionUnknown: the queries, filter or version.
        """
        if min_version is not None:
            self.store.reach(min_version)
        given = self.parse(where)
        found = self.exact.search(
            queries.embedding, NEIGHBOURS, LABELLED if given is None else And((LABELLED, given)), ["label"]
        )
        record, state = self.calibration(found.version)
        obstacle: Reason | None = "filtered" if given is not None and record is not None else state
        answers = classify(queries, found, record, obstacle, self.name, alpha, risk)
        return Classification(answers, found.version, found.exact, obstacle or "fitted")

    def calibrate(self) -> CalibrationRecord:
        """Fit the calibration of this gallery on its own labelled rows, and keep it. Needs scikit-learn.

        Raises:
            UsageError: too few labelled rows that have an uncertainty; (nearly) all neighbours right, or all wrong.
        """
        version = self.store.version()
        names, labels, uncertainty = [], [], []
        parts: list[Float32s] = []
        for batch in self.store.scan(LABELLED, ["label", "uncertainty", "embedding"]):
            names += batch["id"].to_pylist()
            labels += batch["label"].to_pylist()
            uncertainty.append(batch["uncertainty"].to_numpy(zero_copy_only=False).astype(np.float64))
            parts.append(vectors(batch["embedding"]))
        if not names:
            raise UsageError(f"gallery {self.name}: no row has a label; set labels, then calibrate")
        known = np.isfinite(every := np.concatenate(uncertainty))
        if not known.all():
            raise UsageError(
                f"gallery {self.name}: {int((~known).sum())} labelled rows have no uncertainty; embed these again"
            )
        # In the order of ids: what is fitted on which part must not depend on how a store hands out its rows.
        order = np.argsort(np.array(names, object), kind="stable")
        classes, fitted = fit(np.concatenate(parts)[order], every[order], [labels[row] for row in order])
        fingerprint = Fingerprint.of(zip(names, labels, strict=True))
        record = CalibrationRecord(
            version=version,
            k=NEIGHBOURS,
            exact=True,
            classes=classes,
            fingerprint=fingerprint.to_text(),
            gallery=fitted,
        )
        self.store.write_record(CALIBRATION, record.model_dump_json())
        return record

    def calibration(self, version: Version | None = None) -> tuple[CalibrationRecord | None, Reason | None]:
        """The calibration that holds at a version that was just read, by default now, or why there is none:
        `uncalibrated` or `stale`.
        """
        text = self.store.read_record(CALIBRATION)
        if text is None:
            return None, "uncalibrated"
        version, known = self.store.version() if version is None else version, self._judged
        if known is not None and known[:2] == (text, version):
            record, stale = known[2:]
        else:
            record = read_calibration(text, self.name)
            stale = Fingerprint.from_text(record.fingerprint).changed(self._labelled.fingerprint()) > STALE
            self._judged = text, version, record, stale
        return (None, "stale") if stale else (record, None)

    def parse(self, where: Mapping[str, object] | Filter | None) -> Filter | None:
        """A filter from its JSON document.

        Raises:
            InvalidFilter: it is not valid.
        """
        return parse_filter(where, self.spec.fields) if where is None or isinstance(where, Mapping) else where

    def close(self) -> None:
        """Let go of files and connections."""
        self.store.close()
