"""Rows written only while the model is still the folder's."""

from dataclasses import dataclass, replace

import numpy as np

from vssl.objects.path import AnyPath
from vssl_client.embedding.contract import Embedder
from vssl_client.errors import ModelChanged
from vssl_client.folder.contract import Summary
from vssl_client.folder.part_writer import PartWriter
from vssl_client.formats.columns import Origin
from vssl_client.parts.rows import Rows, all_rows


@dataclass(frozen=True)
class CheckedWriter:
    """Writes parts and counts their rows, after a check of the model.

    The server tells its model before the first image and after the last one of each part, because some servers'
    answers carry its name and version, but not the id of its bundle.

    Attributes:
        parts: writes.
        embedder: tells the model.
        origin: the folder's.
        summary: counts what is written.
        variance: False leaves it out.
    """

    parts: PartWriter
    embedder: Embedder
    origin: Origin
    summary: Summary
    variance: bool

    def add(self, rows: Rows) -> None:
        """Collect rows, and write them as the next part once it is full.

        Raises:
            ModelChanged: the server answers with another model now.
            VsslError: see `PartWriter`.
        """
        if self.parts.add(rows):
            self.finish()

    def finish(self) -> None:
        """Write what is collected as the next part.

        Raises:
            ModelChanged, VsslError: as for `add`.
        """
        if self.parts.collected:
            rows = all_rows(self.parts.collected)
            self.parts.write(self._checked(rows))
            self._count(rows)

    def rewrite(self, part: AnyPath, places: list[int], rows: Rows) -> None:
        """Write rows in their places in an earlier part.

        Raises:
            ModelChanged, VsslError: as for `add`.
        """
        self.parts.rewrite(part, places, self._checked(rows))
        self._count(rows)

    def _checked(self, rows: Rows) -> Rows:
        origin, model = self.origin, self.embedder.model()
        dimension = rows.result.embedding.shape[1] or origin.dimension
        bundle = rows.result.bundle_id or model.id
        found = (rows.result.model, rows.result.version, dimension, model.id, bundle)
        if found != (origin.model, origin.version, origin.dimension, origin.id, origin.id):
            raise ModelChanged(
                f"the server changed its model from {origin.model} version {origin.version} to {rows.result.model} "
                f"version {rows.result.version} (id {bundle[:12]}); start the old one again, or embed everything with "
                "--overwrite"
            )
        if self.variance:
            return rows
        return replace(rows, result=replace(rows.result, variance=np.full_like(rows.result.variance, np.nan)))

    def _count(self, rows: Rows) -> None:
        self.summary.new += len(rows)
        self.summary.add(rows.paths, rows.reasons)
