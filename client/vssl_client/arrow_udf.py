"""Arrow batches of images to Arrow batches of embeddings: a function that Spark, Dask and Ray Data can map."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vssl.errors import UsageError

if TYPE_CHECKING:
    from vssl_client.client import Client

VECTOR = pa.list_(pa.float32())
FLAGS = pa.struct([("degraded", pa.bool_()), ("ood", pa.bool_()), ("unfamiliar", pa.bool_())])

ADDED = pa.schema(
    {
        "embedding": VECTOR,
        "variance": VECTOR,
        "uncertainty": pa.float32(),
        "percentile": pa.float32(),
        "confidence": pa.float32(),
        "familiarity": pa.float32(),
        "flags": FLAGS,
        "error": pa.string(),
    }.items()
)
"""The columns that are added, as in the files of `vssl embed`. Vectors are plain lists: Spark knows no fixed ones."""


@dataclass(frozen=True)
class ArrowUDF:
    """Embeds a column of image files; the other columns stay. It can be pickled: each process makes its own client.

    >>> images.select("path", "content").mapInArrow(udf, udf.ddl("path string"))  # doctest: +SKIP

    Attributes:
        column: binary, the bytes of an image file in each row; null is a failed image. Spark's `binaryFile` has this
            name.
        settings: of `Client`: `url`, or `bundle`; without any, the default model.
    """

    column: str = "content"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """For Spark's `mapInArrow`: batch after batch.

        Raises:
            UsageError: there is no such column, it is not binary, or a column has the name of one that is added.
            ClientError: a batch as a whole could not be embedded.
        """
        for batch in batches:
            table = self.table(pa.Table.from_batches([batch]))
            yield pa.RecordBatch.from_arrays([_whole(each) for each in table.columns], schema=table.schema)

    def table(self, table: pa.Table) -> pa.Table:
        """For Dask's `map_partitions` and Ray Data's `map_batches`: a table of N rows. Errors as for a call."""
        double = next((name for name in table.column_names if name in ADDED.names), None)
        if double is not None:
            raise UsageError(f"column {double!r} would be there twice: rename it")
        added = self._embedded(self._images(table))
        rest = table.drop_columns([self.column])
        return pa.table([*rest.columns, *added.columns], schema=pa.schema([*rest.schema, *ADDED]))

    def vectors(self, images: Iterable[bytes | None]) -> list[list[float] | None]:
        """For a `pandas_udf` of Spark, `array<float>`: the embedding alone of each image; None where there is none."""
        vectors: list[list[float] | None] = self._embedded(list(images))["embedding"].to_pylist()
        return vectors

    def ddl(self, kept: str = "") -> str:
        """The result's columns in Spark's words: those that are kept, such as `path string`, and those added."""
        words = {VECTOR: "array<float>", pa.float32(): "float", pa.string(): "string"}
        flags = f"struct<{', '.join(f'{flag.name}: boolean' for flag in FLAGS)}>"
        return ", ".join([*filter(None, [kept]), *(f"{one.name} {words.get(one.type, flags)}" for one in ADDED)])

    def _images(self, table: pa.Table) -> list[bytes | None]:
        kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
        if self.column not in table.column_names:
            raise UsageError(f"there is no column {self.column!r}, only {', '.join(table.column_names) or 'none'}")
        kind = table.schema.field(self.column).type
        if not any(is_one(kind) for is_one in kinds):
            raise UsageError(f"column {self.column!r} holds {kind}, not bytes of images")
        images: list[bytes | None] = table[self.column].to_pylist()
        return images

    def _embedded(self, images: Sequence[bytes | None]) -> pa.Table:
        if not images:
            return ADDED.empty_table()
        known = {name: tuple(each) if isinstance(each, list) else each for name, each in self.settings.items()}
        client = _client(tuple(sorted(known.items())))
        result = client.embed([image or b"" for image in images], on_error="return").to_arrow()
        return result.select(ADDED.names).cast(ADDED)


def arrow_udf(column: str = "content", **settings: Any) -> ArrowUDF:  # noqa: ANN401 — options of `Client`
    """A function from batches of images to batches of embeddings.

    Args:
        column: of the images' bytes.
        settings: options of `Client`, such as `url` or `bundle`, which every process of the cluster must reach.
    """
    return ArrowUDF(column, settings)


@lru_cache(maxsize=8)
def _client(settings: tuple[tuple[str, Any], ...]) -> "Client":
    """One for each process and setting: a model is loaded once, and connections stay open."""
    from vssl_client.client import Client  # it needs no numpy until there is work

    return Client(**dict(settings))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
