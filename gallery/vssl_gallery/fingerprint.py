"""How much of a gallery's labelled rows has changed: a sketch of them, small enough to keep beside a calibration.

The sketch holds the rows whose ids have the least hashes (bottom-k; Broder 1997). Up to `KEPT` rows it holds all, and
the count of changes is exact; above, it is an estimate, whose standard error at a change of 5 % is 0.2 %.
"""

import base64
import hashlib
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vssl_gallery.store.contract import Keys, Store, Version
from vssl_gallery.store.filters import Filter

KEPT = 16_384

TAKEN = 8192
"""Rows that are taken from the store in one call."""


@dataclass(frozen=True)
class Fingerprint:
    """Of `rows` rows: the least hashes of their ids, in order, and a hash of each one's label."""

    rows: int
    ids: npt.NDArray[np.uint64]
    labels: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """Of rows as pairs of id and label."""
        return cls.of_hashes(_hashes(pairs))

    @classmethod
    def of_hashes(cls, hashes: npt.NDArray[np.uint64]) -> Self:
        """Of [N, 2] hashes: of an id and of its label."""
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


class LabelledRows:
    """The fingerprint of a store's labelled rows now. After a write only the rows that changed are read again.

    It keeps 24 bytes for each row. Threads may share it.

    Args:
        store: of the rows.
        where: what a labelled row is.
    """

    def __init__(self, store: Store, where: Filter) -> None:
        self._store, self._where = store, where
        self._lock = threading.Lock()
        self._keys, self._hashes = np.zeros(0, np.int64), np.zeros((0, 2), np.uint64)
        self._known: tuple[Version, Fingerprint] | None = None

    def fingerprint(self) -> Fingerprint:
        """Of the rows as they are at the store's version."""
        with self._lock:
            version = self._store.version()
            if self._known is None or self._known[0] != version:
                version = self._changed() if self._known is not None else self._all(version)
                self._known = version, Fingerprint.of_hashes(self._hashes)
            return self._known[1]

    def _all(self, version: Version) -> Version:
        # The scan may be of a later version; then the next call finds what has changed.
        self._keep(np.zeros(len(self._keys), np.bool_), list(self._store.scan(self._where, ["key", "label"])))
        return version

    def _changed(self) -> Version:
        now = self._store.keys(self._where)
        fresh = np.setdiff1d(now.keys, self._keys)
        if len(fresh) > len(now.keys) // 4:
            return self._all(now.version)
        parts = [fresh[first : first + TAKEN] for first in range(0, len(fresh), TAKEN)]
        taken = [self._store.take(Keys(part, now.version), ["label"]) for part in parts]
        self._keep(np.isin(self._keys, now.keys), taken)
        return now.version

    def _keep(self, still: npt.NDArray[np.bool_], more: Sequence[pa.RecordBatch | pa.Table]) -> None:
        """Keep what is known of these rows, and what was read now."""
        pairs = (zip(part["id"].to_pylist(), part["label"].to_pylist(), strict=True) for part in more)
        self._hashes = np.concatenate([self._hashes[still], *map(_hashes, pairs)])
        self._keys = np.concatenate([self._keys[still], *(part["key"].to_numpy() for part in more)])


def _hashes(pairs: Iterable[tuple[str, str]]) -> npt.NDArray[np.uint64]:
    return np.array([(_hash(name), _hash(label)) for name, label in pairs], np.uint64).reshape(-1, 2)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
