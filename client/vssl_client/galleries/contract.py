"""What can be asked of a gallery, as steps: `Gallery` takes them in threads, `AsyncGallery` in an event loop.

`embedded` takes them over a store here, `remote` over a server.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from vssl_client.exchange.steps import Steps
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
)
from vssl_client.galleries.asked import ClassifyQuery, Item, SearchQuery, Where
from vssl_client.results.model_info import ModelInfo
from vssl_client.results.result import EmbeddingResult
from vssl_gallery.store.contract import Progress

if TYPE_CHECKING:
    import pyarrow as pa

R = TypeVar("R")


class Run(Protocol):
    """Takes steps to their end, in a thread."""

    def __call__(self, steps: Steps[R]) -> R:
        """Their result."""


class RunAsync(Protocol):
    """The same in an event loop."""

    async def __call__(self, steps: Steps[R]) -> R:
        """Their result."""


MapMethod = Literal["auto", "pca", "tsne"]


@dataclass(frozen=True)
class Means:
    """What a gallery here embeds with.

    Attributes:
        model: which model it is.
        embed: at least one encoded image.
        max_bytes: of the largest image file to read.
    """

    model: Callable[[], Steps[ModelInfo]]
    embed: Callable[[Sequence[bytes]], Steps[EmbeddingResult]]
    max_bytes: int


@dataclass(frozen=True)
class Page:
    """Some rows, and where the next ones begin: None after the last."""

    rows: list[Row]
    next: str | None


class GallerySteps(Protocol):
    """A gallery by its name or alias. See `Gallery` for each method."""

    name: str

    @property
    def address(self) -> str:
        """Of its place, without passwords."""

    def names(self) -> Steps[GalleryNames]:
        """All galleries of its place."""

    def create(self, fields: Mapping[str, str], keep_thumbnails: bool) -> Steps[GalleryInfo]:
        """Make it."""

    def drop(self) -> Steps[None]:
        """Remove it."""

    def set_alias(self, alias: str, remove: bool = False) -> Steps[None]:
        """Let an alias mean it, or nothing."""

    def info(self) -> Steps[GalleryInfo]:
        """Its state."""

    def add(self, items: Sequence[Item]) -> Steps[Added]:
        """Embed and write a batch of images."""

    def put(self, rows: "pa.Table") -> Steps[Written]:
        """Write rows."""

    def search(self, query: SearchQuery) -> Steps[SearchAnswer]:
        """Neighbours."""

    def classify(self, query: ClassifyQuery) -> Steps[Classification]:
        """Labels."""

    def rows(self, ids: Sequence[str], columns: Sequence[str] | None) -> Steps[list[Row]]:
        """Rows by id, of those that are there, in the order of `ids`."""

    def page(self, after: str | None, where: Where | None, columns: Sequence[str] | None) -> Steps[Page]:
        """The rows that follow."""

    def change(self, ids: Sequence[str], values: Mapping[str, Any]) -> Steps[Written]:
        """Set `label` and fields."""

    def delete(self, ids: Sequence[str] | None, where: Where | None, dry_run: bool) -> Steps[Written]:
        """Delete rows."""

    def counts(self, by: str | None, where: Where | None) -> Steps[dict[Any, int]]:
        """Rows by the value of a column; without one, of the key None."""

    def duplicates(self, threshold: float) -> Steps[list[DuplicateGroup]]:
        """Groups of rows that show the same."""

    def outliers(self, count: int) -> Steps[list[Outlier]]:
        """Rows far from all others."""

    def pick(self, count: int, seed: int) -> Steps[list[str]]:
        """What to label next."""

    def map(self, method: MapMethod, progress: Progress) -> Steps[GalleryMap]:
        """Places in two dimensions."""

    def calibrate(self, progress: Progress) -> Steps[Mapping[str, Any]]:
        """Fit its calibration."""

    def maintain(self, progress: Progress) -> Steps[list[str]]:
        """Compact it."""

    def snapshot(self, folder: str, progress: Progress) -> Steps[None]:
        """Write it to a folder."""

    def restore(self, folder: str, progress: Progress) -> Steps[int]:
        """Make it from a snapshot; its rows."""

    def export(self, out: Path, where: Where | None) -> Steps[int]:
        """Write its rows to a file; how many."""

    def close(self) -> None:
        """Let go of files and connections."""
