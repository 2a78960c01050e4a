"""What a store of galleries can do. Rows are pyarrow tables both ways; `vssl_gallery.store.rows` has their schema.

A `Place` is a database, a folder or a bucket; it holds galleries by name. A `Store` is one gallery. Both may be used
by several threads at once. One process should write to a gallery; if several do, nothing is lost.

All drivers pass the tests in tests/gallery/store. What these promise:

- A call that writes does so whole or not at all, and has written when it returns. Killed in the middle, it leaves the
  gallery as it was before or after.
- A read sees everything that was written through the same object, and soon what others wrote; `Store.reach` waits for
  it.
- A filter loses nothing: a search finds k rows whenever k rows match.
- No text from outside becomes part of a query's code.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NewType, Protocol

from vssl.arrays import Float32s, Int64s
from vssl_gallery.errors import EncoderMismatch
from vssl_gallery.store.columns import FieldType
from vssl_gallery.store.filters import Filter

if TYPE_CHECKING:
    import pyarrow as pa

Version = NewType("Version", int)
"""A state of a gallery; it rises with every write."""

Progress = Callable[[float], None]
"""Is told from time to time which share of long work is done, and may raise an error of its own to stop it."""


def no_progress(_: float) -> None:
    """Nobody asks."""


@dataclass(frozen=True)
class Spec:
    """What a gallery is bound to from its creation on.

    Attributes:
        encoder_id: of the encoder whose embeddings it holds; others are refused.
        dimension: D, the length of the embeddings.
        fields: the type of each field that its rows have beside the fixed columns.
        keep_thumbnails: whether rows bring a small picture.
        model: the model's name, for people.
        model_version: its version, for people.
        bundle_id: of the bundle it was created with; a calibration changes it, and the gallery stays valid.
    """

    encoder_id: str
    dimension: int
    fields: Mapping[str, FieldType] = field(default_factory=dict)
    keep_thumbnails: bool = True
    model: str = ""
    model_version: str = ""
    bundle_id: str = ""

    def check_encoder(self, encoder_id: str, name: str) -> None:
        """Return if the rows of the gallery of that name are of that encoder.

        Raises:
            EncoderMismatch: they are not.
        """
        if encoder_id != self.encoder_id:
            raise EncoderMismatch(
                f"gallery {name} is of encoder {self.encoder_id[:12]} ({self.model or 'unnamed'}), not of "
                f"{encoder_id[:12]}: embed with that model, or make a new gallery beside it and move its alias"
            )


@dataclass(frozen=True)
class StoreInfo:
    """A gallery's state.

    Attributes:
        spec: what it is bound to.
        rows: how many there are.
        version: the state that this describes.
        indexed_rows: rows that the index covers; the others are searched one by one. 0 without an index.
        recall: the share of the true 10 nearest that the index finds, measured by the last `maintain`; None unless it
            has been.
        size: bytes on disk, or None where the store does not say.
    """

    spec: Spec
    rows: int
    version: Version
    indexed_rows: int = 0
    recall: float | None = None
    size: int | None = None


@dataclass(frozen=True)
class Written:
    """What a write did: the version that has it, and how many rows it put or deleted."""

    version: Version
    rows: int


@dataclass(frozen=True)
class Found:
    """The answer to a search.

    Attributes:
        rows: `query`, int32, the place of the row's query among the vectors; `similarity`, float32, their cosine; `id`;
            and the columns that were asked for. By query, the most similar first.
        version: the state that was searched.
        exact: whether these are the true nearest, with nothing left to an index.
    """

    rows: "pa.Table"
    version: Version
    exact: bool


@dataclass(frozen=True)
class Keys:
    """The keys [N] of some rows at a version, in no order. See `Store.keys`."""

    keys: Int64s
    version: Version


@dataclass(frozen=True)
class Report:
    """What `maintain` did: lines for people, and the state after it."""

    actions: tuple[str, ...]
    info: StoreInfo


class Store(Protocol):
    """One gallery. Every method may raise `StoreUnavailable`; those that write, `StoreFull` too."""

    name: str
    spec: Spec

    def info(self) -> StoreInfo:
        """Its state now."""

    def version(self) -> Version:
        """The version that reads see now, looked up cheaply."""

    def reach(self, version: Version, timeout: float = 5.0) -> None:
        """Return when reads see that version, at once where they do already.

        Raises:
            VersionUnknown: they don't within so many seconds: this gallery has no such version.
        """

    def upsert(self, rows: "pa.Table") -> Written:
        """Put rows, each in place of the one that has its id. Of rows with one id in a call, the last counts.

        Args:
            rows: columns of `rows.schema`, in any order; a column that may be null may be missing.

        Raises:
            InvalidRows: a column is missing, unknown or of another type, or a value is out of bounds.
        """

    def delete(self, where: Filter | None) -> Written:
        """Delete the rows that match; all for None. They are gone from every answer at once; see `maintain`."""

    def search(
        self,
        vectors: Float32s,
        k: int,
        where: Filter | None = None,
        columns: Sequence[str] = (),
        exact: bool = False,
    ) -> Found:
        """The k rows most similar to each of `vectors` [Q, D], of unit length.

        Args:
            vectors: [Q, D]; many in one call are much cheaper than one by one.
            k: at most; fewer are found only where fewer match.
            where: which rows may be found.
            columns: what to return of each row beside `id`.
            exact: leave the index out. `vssl_gallery.exact` is faster, with the vectors in memory. What an index
                proposes is ranked by its true similarities all the same.

        Raises:
            InvalidRows: the vectors are not [Q, D], finite and of unit length.
        """

    def scan(self, where: Filter | None = None, columns: Sequence[str] = ()) -> "Iterator[pa.RecordBatch]":
        """All rows that match, at one version, in no order: `id` and these columns, a few MB at a time.

        `columns` may name `key` too; see `keys`.
        """

    def page(
        self, after: str | None, limit: int, where: Filter | None = None, columns: Sequence[str] = ()
    ) -> "pa.Table":
        """The next `limit` rows that match, by id: `id` and these columns of those whose id follows `after`."""

    def count(self, where: Filter | None = None) -> int:
        """How many rows match."""

    def count_by(self, column: str, where: Filter | None = None) -> dict[str | int | bool | None, int]:
        """How many rows match of each value of a column of texts, integers or booleans; None: without a value."""

    def keys(self, where: Filter | None = None) -> Keys:
        """The keys of the rows that match, read cheaply.

        A key is the name of one state of one row. A row that is put again has another key, no key is used twice, and
        what a key's row holds never changes: so it may be kept in memory by its key. Maintenance may give new keys to
        all.
        """

    def take(self, keys: Keys, columns: Sequence[str] = ()) -> "pa.Table":
        """Rows by some keys, in their order: `key`, `id` and these columns; without rows that are gone."""

    def maintain(self) -> Report:
        """Compact, bring the index up to date, measure its recall, and erase what was deleted an hour ago or earlier.

        It may run beside reads and writes, and is never part of them.

        Raises:
            StoreFull: nothing has changed.
        """

    def records(self) -> dict[str, str]:
        """All texts that it keeps, by their keys. Keys that begin with `_` are the store's own."""

    def read_record(self, key: str) -> str | None:
        """A text that the gallery keeps beside its rows, such as its calibration; None where there is none."""

    def write_record(self, key: str, text: str | None) -> None:
        """Keep that text, or with None forget it."""

    def close(self) -> None:
        """Let go of files and connections. The gallery stays."""


class Place(Protocol):
    """Galleries at one address. Every method may raise `StoreUnavailable`."""

    address: str
    """Without passwords."""

    def check(self) -> None:
        """Return if the place answers now."""

    def galleries(self) -> list[str]:
        """Their names, in order."""

    def create(self, name: str, spec: Spec) -> Store:
        """A new, empty gallery.

        Raises:
            InvalidName: `columns.check_gallery_name` or `columns.check_fields` refuses.
            GalleryExists: the name is taken, by an alias also.
        """

    def open(self, name: str) -> Store:
        """The gallery of that name, or of that alias.

        Raises:
            UnknownGallery: there is none.
            NotAGallery: something else is there, or a gallery that a newer version wrote.
        """

    def drop(self, name: str) -> None:
        """Remove a gallery with all that it holds; its aliases too.

        Raises:
            UnknownGallery: there is none of that name; an alias does not count.
        """

    def aliases(self) -> dict[str, str]:
        """The gallery that each alias means."""

    def set_alias(self, alias: str, name: str | None) -> None:
        """Let an alias mean that gallery from now on, in one step; None removes it.

        Raises:
            InvalidName: an alias can't have that name.
            GalleryExists: a gallery has the alias's name.
            UnknownGallery: there is no gallery of that name.
        """

    def close(self) -> None:
        """Let go of files and connections."""
