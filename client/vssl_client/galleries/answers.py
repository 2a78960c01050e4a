"""What a gallery answers, wherever it lies. What is None is not known, or was not asked for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from vssl_client.errors import ImageRejected

if TYPE_CHECKING:
    from vssl.arrays import Float32s

T = TypeVar("T")
Document = Mapping[str, Any]


def of(kind: type[T], document: Document, **more: object) -> T:
    """A data class from a JSON object: keys that it does not know are left out."""
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in {**document, **more}.items() if name in known})


@dataclass(frozen=True)
class GalleryInfo:
    """A gallery and its state.

    Attributes:
        name: its own, where it was asked for by an alias.
        model: name of the model whose embeddings it holds.
        model_version: of that model.
        encoder_id: of its encoder; others are refused.
        bundle_id: of the bundle that it was made with.
        dimension: D, the length of its embeddings.
        fields: the type of each field of its own.
        keep_thumbnails: whether rows have a small picture.
        rows: how many there are.
        version: the state that this describes; it rises with every write.
        indexed_rows: rows that an index covers.
        recall: share of the true neighbours that the index finds, as measured by the last `maintain`.
        bytes: on disk.
        calibration: `fitted`, `uncalibrated` or `stale`.
        classes: labels that the calibration knows.
        labelled: rows that have a label.
        aliases: other names of it.
        scopes: what may be done with it: `search`, `write`.
        served: whether images can be asked: a model of its encoder is at hand.
    """

    name: str
    model: str
    model_version: str
    encoder_id: str
    bundle_id: str
    dimension: int
    fields: Mapping[str, str]
    keep_thumbnails: bool
    rows: int
    version: int
    indexed_rows: int = 0
    recall: float | None = None
    bytes: int | None = None
    calibration: str = "uncalibrated"
    classes: int | None = None
    labelled: int | None = None
    aliases: Sequence[str] = ()
    scopes: Sequence[str] = ("search", "write")
    served: bool = True


@dataclass(frozen=True)
class GalleryNames:
    """The galleries of a place, and what each alias means."""

    galleries: Sequence[str]
    aliases: Mapping[str, str]


@dataclass(frozen=True)
class Row:
    """A row of a gallery: of the columns that were asked for, all others are None.

    Attributes:
        id: its name.
        path: where the image came from; by default the id.
        label: its class.
        uncertainty: of the image alone.
        percentile: of its uncertainty among ordinary images.
        confidence: 1 − percentile.
        novelty: distance to what the bundle was calibrated on.
        familiarity: the share of ordinary images that are as novel.
        flags: `degraded`, `ood`, `unfamiliar`.
        width: pixels, as it is shown.
        height: pixels.
        size: bytes of the file.
        sha256: of the file.
        precision: of the model that embedded it.
        added_at: when it was written.
        meta: any JSON.
        fields: the gallery's own.
        embedding: [D].
        variance: [D].
    """

    id: str
    path: str | None = None
    label: str | None = None
    uncertainty: float | None = None
    percentile: float | None = None
    confidence: float | None = None
    novelty: float | None = None
    familiarity: float | None = None
    flags: Mapping[str, bool | None] | None = None
    width: int | None = None
    height: int | None = None
    size: int | None = None
    sha256: str | None = None
    precision: str | None = None
    added_at: datetime | None = None
    meta: Any = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    embedding: "Float32s | None" = field(default=None, repr=False)
    variance: "Float32s | None" = field(default=None, repr=False)

    @classmethod
    def of(cls, document: Document) -> "Row":
        """From the JSON of a server."""
        found = dict(document)
        if isinstance(found.get("added_at"), str):
            found["added_at"] = datetime.fromisoformat(found["added_at"])
        for name in ("embedding", "variance"):
            if found.get(name) is not None:
                import numpy as np

                found[name] = np.asarray(found[name], np.float32)
        return of(cls, found)

    def value(self, column: str) -> object:
        """Of a column, a field or a flag by its name."""
        for known in (self.fields, self.flags or {}):
            if column in known:
                return known[column]
        return getattr(self, column, None)


@dataclass(frozen=True)
class AddedImage:
    """An image that was added, or `error` says why it was not."""

    index: int
    id: str
    uncertainty: float | None = None
    percentile: float | None = None
    confidence: float | None = None
    familiarity: float | None = None
    flags: Mapping[str, bool] | None = None
    error: ImageRejected | None = None


@dataclass(frozen=True)
class Added:
    """What became of each image, in their order; `version` has them, and is None where nothing was written."""

    version: int | None
    images: list[AddedImage]


@dataclass(frozen=True)
class Written:
    """How many rows a call put, changed or deleted, and the version that shows it."""

    version: int
    rows: int
    dry_run: bool = False


@dataclass(frozen=True)
class QueryInfo:
    """What is known of the image of a query."""

    uncertainty: float | None = None
    percentile: float | None = None
    confidence: float | None = None
    familiarity: float | None = None
    flags: Mapping[str, bool | None] | None = None
    resembles: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Neighbour:
    """A row that was found; `row` has the columns that were asked for, `score` is there unless it is the cosine."""

    id: str
    similarity: float
    score: float | None = None
    row: Row | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Neighbours:
    """The rows nearest to one query, the most similar first."""

    query: QueryInfo
    neighbours: list[Neighbour]


@dataclass(frozen=True)
class SearchAnswer:
    """The neighbours of each query, in their order; `exact`: nothing was left to an index."""

    version: int
    exact: bool
    results: list[Neighbours]


@dataclass(frozen=True)
class Classified:
    """What a gallery says of one query.

    Attributes:
        query: what is known of its image.
        label: of the nearest neighbour.
        p_correct: estimated probability that it is right, or None: see `reason`.
        interval: 95 %, of that probability.
        prediction_set: labels that can't be ruled out.
        action: `accept`, `review` or `abstain`.
        reason: of an abstention.
        neighbours: the rows that voted.
    """

    query: QueryInfo
    label: str | None
    p_correct: float | None
    interval: tuple[float, float] | None
    prediction_set: list[str] | None
    action: str
    reason: str | None
    neighbours: list[Neighbour]


@dataclass(frozen=True)
class Classification:
    """What a gallery says of each query; `calibration` is `fitted`, or why there is none."""

    version: int
    exact: bool
    calibration: str
    results: list[Classified]


@dataclass(frozen=True)
class DuplicateGroup:
    """Rows that show the same thing: which to keep, and the others; `similarity` is the lowest cosine with `kept`."""

    kept: str
    others: list[str]
    similarity: float | None = None


@dataclass(frozen=True)
class Outlier:
    """A row far from all others; `distance` is 1 − the mean cosine to its 10 nearest."""

    id: str
    distance: float
    novelty: float | None = None
    familiarity: float | None = None


@dataclass(frozen=True)
class MappedRow:
    """A row's place on a map; `mapped` itself, or put among its neighbours."""

    id: str
    x: float
    y: float
    mapped: bool = True


@dataclass(frozen=True)
class GalleryMap:
    """A gallery in two dimensions, by `pca` or `tsne`."""

    method: str
    rows: list[MappedRow]

    @classmethod
    def of_blocks(cls, body: bytes) -> "GalleryMap":
        """From a line of JSON, float32 x and y of N rows, a block for each column, and the ids as JSON."""
        import numpy as np

        head, _, blocks = body.partition(b"\n")
        about = json.loads(head)
        rows = int(about["rows"])
        x, y = np.frombuffer(blocks, "<f4", 2 * rows).reshape(2, rows).tolist()
        start = 4 * rows * (2 + len(about["columns"]))
        ids = json.loads(blocks[start : start + about["ids_bytes"]])
        return cls(str(about["method"]), [MappedRow(*one) for one in zip(ids, x, y, strict=True)])
