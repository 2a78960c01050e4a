"""How much of a gallery's labelled rows has changed: a sketch of them, small enough to keep beside a calibration.

The sketch holds the rows whose ids have the least hashes (bottom-k; Broder 1997). Up to `KEPT` rows it holds all, and
the count of changes is exact; above, it is an estimate, whose standard error at a change of 5 % is 0.2 %.
"""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

KEPT = 16_384


@dataclass(frozen=True)
class Fingerprint:
    """Of `rows` rows: the least hashes of their ids, in order, and a hash of each one's label."""

    rows: int
    ids: npt.NDArray[np.uint64]
    labels: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """Of rows as pairs of id and label."""
        hashes = np.array([(_hash(name), _hash(label)) for name, label in pairs], np.uint64).reshape(-1, 2)
        kept = hashes[np.argsort(hashes[:, 0], kind="stable")[:KEPT]]
        return cls(len(hashes), kept[:, 0], kept[:, 1])

    def changed(self, now: Self) -> float:
        """Rows added, deleted or relabelled since, as a share of the rows of this one."""
        if not self.rows:
            return float("inf") if now.rows else 0.0
        # The least hashes of both together: of each it is known whether the other has it.
        union = np.union1d(self.ids, now.ids)[:KEPT]
        before, after = self._labels_of(union), now._labels_of(union)
        both = np.array([a is not None and b is not None for a, b in zip(before, after, strict=True)])
        changed = np.array([a != b for a, b in zip(before, after, strict=True)])
        all_rows = (self.rows + now.rows) / (1 + both.mean())
        return float(changed.mean() * all_rows / self.rows)

    def _labels_of(self, ids: npt.NDArray[np.uint64]) -> list[int | None]:
        known = dict(zip(self.ids.tolist(), self.labels.tolist(), strict=True))
        return [known.get(each) for each in ids.tolist()]

    def to_text(self) -> str:
        """As text, to be kept."""
        return f"{self.rows}:{base64.b64encode(np.stack([self.ids, self.labels]).tobytes()).decode()}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `to_text` wrote."""
        rows, _, hashes = text.partition(":")
        ids, labels = np.frombuffer(base64.b64decode(hashes), np.uint64).reshape(2, -1)
        return cls(int(rows), ids, labels)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
