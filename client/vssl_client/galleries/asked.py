"""What is asked of a gallery, and what is put into it, in the words of its interface."""

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, cast

import numpy as np
import numpy.typing as npt

from vssl.arrays import Float32s
from vssl.errors import UsageError
from vssl_client.inputs import ImageInput, Snapshot, check_list, name_of, snapshot

Where = Mapping[str, Any]
"""A filter, such as {"label": "shoe", "year": {"$gte": 2020}}."""

Score = Literal["cosine", "csd", "mls"]


class QueryOptions(TypedDict, total=False):
    """Exactly one of `image`, `images`, `vector`, `vectors`, `id` and `ids`; the rest as each is needed.

    `uncertainty` is of the image of `vector`; `where` says which rows may answer; `min_version` waits for a write.
    """

    image: ImageInput
    images: Sequence[ImageInput]
    vector: npt.ArrayLike
    vectors: npt.ArrayLike
    id: str
    ids: Sequence[str]
    uncertainty: float
    where: Where | None
    min_version: int | None


class SearchOptions(QueryOptions, total=False):
    """A query, and `k` neighbours with these `columns`, ranked by `score`.

    `exact` leaves an index out; `exclude_self` a row that is the query itself.
    """

    k: int
    columns: Sequence[str]
    exact: bool | None
    score: Score
    exclude_self: bool


class ClassifyOptions(QueryOptions, total=False):
    """A query; `alpha`: how often a prediction set may miss the label; `risk`: errors among the accepted."""

    alpha: float
    risk: float


@dataclass(frozen=True, kw_only=True)
class Query:
    """`QueryOptions` with their defaults.

    Raises:
        UsageError: not exactly one thing is asked.
        TypeError: an image has none of the accepted forms.
    """

    image: ImageInput | None = None
    images: Sequence[ImageInput] | None = None
    vector: npt.ArrayLike | None = None
    vectors: npt.ArrayLike | None = None
    id: str | None = None
    ids: Sequence[str] | None = None
    uncertainty: float | None = None
    where: Where | None = None
    min_version: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("image", "images", "vector", "vectors", "id", "ids") if self._has(name)]
        if len(given) != 1:
            raise UsageError("a query is exactly one of image, images, vector, vectors, id and ids")
        if isinstance(self.ids, str):
            raise UsageError("ids is a list; one row goes into id")
        if self.images is not None:
            check_list(self.images)
        if self.uncertainty is not None and self.vector is None:
            raise UsageError("uncertainty is that of the image of one vector")

    def _has(self, name: str) -> bool:
        return getattr(self, name) is not None

    def snapshots(self) -> list[Snapshot]:
        """Its images."""
        images = [self.image] if self.image is not None else list(self.images or ())
        return [snapshot(image, index) for index, image in enumerate(images)]

    def arrays(self) -> Float32s | None:
        """Its vectors, [Q, D].

        Raises:
            UsageError: they are no numbers of that shape.
        """
        given = self.vectors if self.vector is None else self.vector
        if given is None:
            return None
        try:
            array = np.asarray(given, np.float32)
        except (TypeError, ValueError) as error:
            raise UsageError(f"vectors: {error}") from None
        array = array[None] if self.vector is not None else array
        if array.ndim != 2:
            raise UsageError(f"vectors of shape {list(array.shape)}: give vector as [D], vectors as [Q, D]")
        return array

    def names(self) -> list[str]:
        """The rows that are asked by id."""
        return [self.id] if self.id is not None else list(self.ids or ())


@dataclass(frozen=True, kw_only=True)
class SearchQuery(Query):
    """`SearchOptions` with their defaults."""

    k: int = 10
    columns: Sequence[str] = ()
    exact: bool | None = None
    score: Score = "cosine"
    exclude_self: bool = False


@dataclass(frozen=True, kw_only=True)
class ClassifyQuery(Query):
    """`ClassifyOptions` with their defaults."""

    alpha: float = 0.1
    risk: float = 0.05


@dataclass(frozen=True)
class Item:
    """An image to add: its place among all, the image, and what is known of it.

    `id` is by default the path that it came as, else the SHA-256 of its bytes.
    """

    index: int
    image: Snapshot
    id: str | None = None
    label: str | None = None
    meta: Any = None
    fields: Mapping[str, object] = field(default_factory=dict)


class AddOptions(TypedDict, total=False):
    """One of each for every image: `ids`, `labels`, `meta` (any JSON) and `fields` (the gallery's own, by name)."""

    ids: Sequence[str | None]
    labels: Sequence[str | None]
    meta: Sequence[Any]
    fields: Sequence[Mapping[str, object]]


OPTIONS = {"ids": "id", "labels": "label", "meta": "meta", "fields": "fields"}


def check_known(images: object, known: AddOptions) -> None:
    """Refuse what does not go with the images.

    Raises:
        UsageError: a list has another length than the images, where these have one.
        TypeError: there is no such option.
    """
    for name, values in known.items():
        if name not in OPTIONS:
            raise TypeError(f"add has no option {name!r}")
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise UsageError(f"{name}: give a list with one for every image")
        if isinstance(images, Sized) and len(images) != len(values):
            raise UsageError(f"{name}: {len(values)} for {len(images)} images; give one for every image")


def item(index: int, image: ImageInput, known: AddOptions) -> Item:
    """The image number `index`, with what is known of it.

    Raises:
        UsageError: a list is shorter than the images.
        TypeError: the image has none of the accepted forms.
    """
    now = snapshot(image, index)
    about: dict[str, Any] = {"id": name_of(now)}
    for name, values in known.items():
        if index >= len(cast(Sequence[Any], values)):
            raise UsageError(f"{name}: there is none for image {index}; give one for every image")
        about[OPTIONS[name]] = cast(Sequence[Any], values)[index]
    about["id"] = name_of(now) if about["id"] is None else about["id"]
    return Item(index, now, **{name: value for name, value in about.items() if name != "fields" or value is not None})
