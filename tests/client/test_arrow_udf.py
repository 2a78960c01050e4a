"""Arrow batches with images in, batches with embeddings out, as engines of data frames call it."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from tests.client.conftest import oracle, pictures
from vssl.bundle.reading import Bundle
from vssl.errors import UsageError
from vssl_client.arrow_udf import ADDED, arrow_udf


def batch(images: list[bytes | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {"path": pa.array(map(str, range(len(images))), pa.string()), "content": pa.array(images, pa.binary())}
    )


def test_each_row_has_what_the_engine_makes_of_its_image(calibrated_bundle: Bundle) -> None:
    images = pictures(5)
    udf = pickle.loads(pickle.dumps(arrow_udf(bundle=str(calibrated_bundle.location))))
    batches = list(udf(iter([batch([*images[:3], None]), batch([]), batch([b"no image", *images[3:]])])))
    assert [each.num_rows for each in batches] == [4, 0, 3]
    assert all(each.schema == pa.schema([("path", pa.string()), *ADDED]) for each in batches)
    rows = pa.Table.from_batches(batches).to_pylist()
    good = [row for row in rows if row["error"] is None]
    wanted = oracle(calibrated_bundle, images)
    np.testing.assert_allclose([row["embedding"] for row in good], wanted.embedding, atol=1e-6)
    np.testing.assert_allclose([row["variance"] for row in good], wanted.variance, rtol=1e-4)
    np.testing.assert_allclose([row["uncertainty"] for row in good], wanted.uncertainty, rtol=1e-4)
    assert all(set(row["flags"]) == {"degraded", "ood", "unfamiliar"} for row in good)
    assert [row["error"].split(":")[0] for row in rows if row["error"]] == ["empty", "not_an_image"]
    assert udf.vectors([images[0], None])[1] is None


def test_a_batch_without_one_image_that_can_be_read(tiny_bundle: Bundle) -> None:
    (only,) = arrow_udf(bundle=str(tiny_bundle.location))([batch([None, b"x"])])
    assert only["embedding"].null_count == only["flags"].null_count == 2


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"image": [b"x"]}), "no column 'content', only image"),
        (pa.table({"content": ["x"]}), "holds string, not bytes"),
        (pa.table({"content": [b"x"], "error": ["x"]}), "would be there twice"),
    ],
)
def test_columns_that_do_not_fit(table: pa.Table, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        arrow_udf(bundle="builtin:tiny").table(table)


def test_spark_is_told_the_columns() -> None:
    assert arrow_udf().ddl("path string") == (
        "path string, embedding array<float>, variance array<float>, uncertainty float, percentile float, "
        "confidence float, familiarity float, flags struct<degraded: boolean, ood: boolean, unfamiliar: boolean>, "
        "error string"
    )


def test_several_servers_are_named_in_a_list(server: str) -> None:
    images = pictures(2)
    (answer,) = arrow_udf(url=[server, server])([batch([*images])])
    assert answer["error"].null_count == 2
