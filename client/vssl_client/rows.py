"""What a job writes, whatever the format of its parts: rows, and where they come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vssl.errors import VsslError
from vssl_client.result import EmbeddingResult, joined

ABOUT = ("model", "version", "id", "source")


@dataclass(frozen=True)
class Origin:
    """What all parts of a folder share: the model's name, version, bundle id and dimension D, the source's name."""

    model: str
    version: str
    id: str
    source: str
    dimension: int


@dataclass(frozen=True)
class Rows:
    """Results of consecutive images, with the SHA-256 and the size of their files, None where one can't be read."""

    paths: list[str]
    hashes: list[str | None]
    sizes: list[int | None]
    result: EmbeddingResult

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def reasons(self) -> list[str | None]:
        """For each image why it has no embedding, as the column `error` holds it, or None."""
        return [None if error is None else error.reason for error in self.result.errors]


def all_rows(parts: Sequence[Rows]) -> Rows:
    """Rows put together, in order; at least one.

    Raises:
        ModelChanged: they come from different models.
    """
    return Rows(
        [path for rows in parts for path in rows.paths],
        [sha256 for rows in parts for sha256 in rows.hashes],
        [size for rows in parts for size in rows.sizes],
        joined([rows.result for rows in parts]),
    )


def unreadable(part: Path, error: Exception) -> VsslError:
    """What to say of a part that is damaged, or is none."""
    advice = "delete it, and `vssl embed` makes it again"
    return VsslError(f"{part}: not a part of embeddings that can be read ({error}); {advice}")
