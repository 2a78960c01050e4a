"""What a calibrated bundle says of an image, in every form of answer."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from tests.server.conftest import Served, expected, png, serving
from vssl.bundle.reading import Bundle
from vssl.images.decoding import decode
from vssl.uncertainty.calibrated import FLAGS, NUMBERS, CalibratedUncertainty, apply_calibration
from vssl.uncertainty.familiarity import references_of
from vssl_server.http.embed.writers import ARROW, NPZ

FILES = [png(shade) for shade in (5, 120, 250)]
BAD = b"no image"


@pytest.fixture(scope="module")
def calibrated(calibrated_bundle: Bundle) -> Iterator[Served]:
    with serving(calibrated_bundle, name="calibrated") as running:
        yield running


@pytest.fixture(scope="module")
def truth(calibrated_bundle: Bundle) -> CalibratedUncertainty:
    assert calibrated_bundle.manifest.calibration is not None
    references = references_of(calibrated_bundle)
    found = apply_calibration(calibrated_bundle.manifest.calibration, expected(calibrated_bundle, FILES), references)
    assert len(set(found.percentile.tolist())) == 3
    assert found.familiarity is not None
    return found


def ask(served: Served, query: str = "", **headers: str) -> Any:
    files = [("images", ("a.png", data)) for data in (*FILES[:2], BAD, FILES[2])]
    answer = served.client.post(f"/v1/embed?on_error=return{query}", files=files, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def assert_rows(rows: list[dict[str, Any]], truth: CalibratedUncertainty) -> None:
    for name in NUMBERS:
        np.testing.assert_allclose([row[name] for row in rows], getattr(truth, name), rtol=1e-5)
    assert [row["flags"] for row in rows] == [
        {name: bool(truth.flags[name][i]) for name in FLAGS} for i in range(len(rows))
    ]


def test_json(calibrated: Served, truth: CalibratedUncertainty) -> None:
    rows = ask(calibrated).json()["data"]
    assert "percentile" not in rows.pop(2)
    assert_rows(rows, truth)


def test_pixels(calibrated: Served, calibrated_bundle: Bundle, truth: CalibratedUncertainty) -> None:
    file = io.BytesIO()
    np.save(file, np.stack([decode(data, calibrated_bundle.manifest.preprocessing) for data in FILES]))
    headers = {"Content-Type": "application/x-npy"}
    assert_rows(calibrated.client.post("/v1/embed", content=file.getvalue(), headers=headers).json()["data"], truth)


def test_json_of_chosen_fields(calibrated: Served, truth: CalibratedUncertainty) -> None:
    rows = ask(calibrated, "&fields=flags,percentile").json()["data"]
    assert rows[0].keys() == {"index", "name", "flags", "percentile"}


def test_metrics_count_what_is_judged_and_flagged(calibrated_bundle: Bundle, truth: CalibratedUncertainty) -> None:
    with serving(calibrated_bundle, name="counted") as running:
        ask(running)
        ask(running, "&fields=embedding")  # not judged
        shown = running.client.get("/metrics").text.splitlines()
    assert 'vssl_judged_images_total{model="counted"} 3.0' in shown
    for name in FLAGS:
        assert f'vssl_flagged_images_total{{flag="{name}",model="counted"}} {float(truth.flags[name].sum())}' in shown


def test_npz(calibrated: Served, truth: CalibratedUncertainty) -> None:
    arrays = np.load(io.BytesIO(ask(calibrated, Accept=NPZ).content))
    good = [0, 1, 3]
    for name in NUMBERS:
        np.testing.assert_allclose(arrays[name][good], getattr(truth, name), rtol=1e-5)
        assert np.isnan(arrays[name][2])
    for name in FLAGS:
        assert arrays[f"flags_{name}"].tolist() == [*truth.flags[name][:2], False, truth.flags[name][2]]


def test_arrow(calibrated: Served, truth: CalibratedUncertainty) -> None:
    rows = pa.ipc.open_stream(ask(calibrated, Accept=ARROW).content).read_all().to_pylist()
    assert {rows[2][name] for name in (*NUMBERS, *(f"flags_{flag}" for flag in FLAGS))} == {None}
    del rows[2]
    assert_rows([row | {"flags": {name: row[f"flags_{name}"] for name in FLAGS}} for row in rows], truth)


def test_openai(calibrated: Served, truth: CalibratedUncertainty) -> None:
    images = [base64.b64encode(data).decode() for data in FILES]
    answer = calibrated.client.post("/v1/embeddings", json={"model": "calibrated", "input": images})
    assert_rows(answer.json()["data"], truth)


def test_null_without_a_calibration(client: TestClient) -> None:
    [row] = client.post("/v1/embed", content=FILES[0], headers={"Content-Type": "image/png"}).json()["data"]
    assert {row[name] for name in (*NUMBERS, "flags")} == {None}
    image = base64.b64encode(FILES[0]).decode()
    [row] = client.post("/v1/embeddings", json={"model": "tiny", "input": image}).json()["data"]
    assert {row[name] for name in (*NUMBERS, "flags")} == {None}
