"""Images embedded by Spark, in two worker processes on this machine, in a venv of its own."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.client.conftest import oracle, pictures
from tests.paths import ROOT
from vssl.bundle.reading import Bundle

PYTHON = ROOT / ".venv-spark" / "bin" / "python"

JOB = """
import json, sys
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf
import pandas as pd
from vssl_client.arrow_udf import arrow_udf

folder, bundle = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.ui.enabled", False)
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.sql.execution.arrow.maxRecordsPerBatch", 8)
    .getOrCreate()
)
udf = arrow_udf(bundle=bundle)

@pandas_udf("array<float>")
def vectors(images: pd.Series) -> pd.Series:
    return pd.Series(udf.vectors(images))

images = spark.read.format("binaryFile").load(folder).select("path", "content").repartition(2)
rows = images.mapInArrow(udf, udf.ddl("path string")).collect()
print(json.dumps([row.asDict(recursive=True) for row in rows]))
print(json.dumps([row.asDict() for row in images.select("path", vectors("content").alias("embedding")).collect()]))
"""


@pytest.mark.spark
@pytest.mark.skipif(not PYTHON.exists(), reason="needs .venv-spark: `make test-spark` makes it")
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java: Debian's openjdk-17-jre-headless")
def test_spark_maps_both_kinds_of_function(tiny_bundle: Bundle, tmp_path: Path) -> None:
    images = pictures(30)
    for number, data in enumerate(images):
        (tmp_path / f"{number:02d}.png").write_bytes(data)
    (tmp_path / "bad.png").write_bytes(b"no image")
    words: list[str | Path] = [PYTHON, "-c", JOB, tmp_path, tiny_bundle.location]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    rows, vectors = map(json.loads, done.stdout.splitlines()[-2:])
    found = {Path(row["path"]).name: row for row in rows}
    wanted = oracle(tiny_bundle, images)
    names = [f"{number:02d}.png" for number in range(30)]
    assert sorted(found) == sorted([*names, "bad.png"])
    np.testing.assert_allclose([found[name]["embedding"] for name in names], wanted.embedding, atol=1e-5)
    np.testing.assert_allclose([found[name]["uncertainty"] for name in names], wanted.uncertainty, rtol=1e-4)
    assert found["bad.png"]["error"].startswith("not_an_image: ")
    assert found["bad.png"]["embedding"] is None
    alone = {Path(row["path"]).name: row["embedding"] for row in vectors}
    np.testing.assert_allclose([alone[name] for name in names], wanted.embedding, atol=1e-5)
