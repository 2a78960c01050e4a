"""Fingerprints, duplicates, odd ones, picks and maps against what brute force says."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.manifold import trustworthiness

from vssl.arrays import Float32s
from vssl.errors import UsageError
from vssl.search.nearest import normalised
from vssl_gallery import duplicates, fingerprint
from vssl_gallery.duplicates import groups, pairs
from vssl_gallery.fingerprint import Fingerprint
from vssl_gallery.map import main_directions, tsne
from vssl_gallery.outliers import distances
from vssl_gallery.pick import pick
from vssl_gallery.queries import Queries, combined

labels = st.dictionaries(st.text(max_size=3), st.sampled_from(["a", "b", "c"]), max_size=30)


def unit(rows: int, dimension: int = 8, seed: int = 0) -> Float32s:
    return normalised(np.random.default_rng(seed).normal(size=(rows, dimension))).astype(np.float32)


@given(labels, labels)
def test_a_fingerprint_counts_changes(before: dict[str, str], now: dict[str, str]) -> None:
    changed = sum(before.get(name) != now.get(name) for name in before.keys() | now.keys())
    kept = Fingerprint.from_text(Fingerprint.of(before.items()).to_text())
    found = kept.changed(Fingerprint.of(now.items()))
    assert found == pytest.approx(changed / len(before) if before else (np.inf if now else 0))


def test_of_many_rows_it_estimates_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "KEPT", 2000)
    before = {f"{row}": "a" for row in range(20_000)}
    now = {name: "b" if int(name) < 500 else "a" for name in before if int(name) >= 300} | {
        f"x{n}": "a" for n in range(500)
    }
    assert Fingerprint.of(before.items()).changed(Fingerprint.of(now.items())) == pytest.approx(0.05, abs=0.015)


@settings(max_examples=50)
@given(st.integers(0, 40), st.integers(0, 99), st.floats(0.3, 0.99))
def test_groups_are_the_connected_ones(rows: int, seed: int, threshold: float) -> None:
    vectors = unit(rows, 3, seed)
    names = [f"{row:02}" for row in range(rows)]
    pixels = np.random.default_rng(seed).integers(1, 4, rows).astype(float)
    uncertainty = np.random.default_rng(seed + 1).normal(size=rows)
    near = vectors @ vectors.T >= threshold
    reached = [{row} for row in range(rows)]
    for _ in range(rows):
        reached = [
            set().union(*(set(np.flatnonzero(near[other]).tolist()) | {other} for other in one)) for one in reached
        ]
    wanted = {frozenset(one) for one in reached if len(one) > 1}
    found = groups(vectors, names, pixels, uncertainty, threshold)
    assert {frozenset(int(name) for name in (group.kept, *group.others)) for group in found} == wanted
    for group in found:
        members = [int(name) for name in (group.kept, *group.others)]
        assert int(group.kept) == min(members, key=lambda row: (-pixels[row], uncertainty[row]))
        assert group.similarity == pytest.approx(
            [float(vectors[int(o)] @ vectors[int(group.kept)]) for o in group.others], abs=1e-5
        )


@pytest.mark.parametrize("many", [duplicates.MANY, 1_000_000], ids=["whole blocks too", "pair by pair"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 90), st.integers(0, 99), st.floats(0.05, 1), st.floats(0, 1))
def test_no_pair_is_missed(
    monkeypatch: pytest.MonkeyPatch, many: int, rows: int, seed: int, threshold: float, apart: float
) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", 16)
    monkeypatch.setattr(duplicates, "DIRECTIONS", 4)
    monkeypatch.setattr(duplicates, "MANY", many)
    vectors = unit(rows, 32, seed)
    vectors[rows // 2 :] = normalised(vectors[: rows - rows // 2] + apart * vectors[rows // 2 :])
    cosines = vectors @ vectors.T
    found = {pair for first, second in pairs(vectors, threshold) for pair in zip(first, second, strict=True)}
    assert all(first < second and cosines[first, second] > threshold - 1e-5 for first, second in found)
    wanted = np.argwhere(np.triu(cosines > threshold + 1e-5, 1))
    assert {(first, second) for first, second in wanted.tolist()} <= found


def test_what_is_far_from_all_others_is_odd() -> None:
    vectors = np.concatenate([unit(50), unit(1, seed=5)])
    vectors[:50] = normalised(vectors[:50] * 0.1 + vectors[0])
    apart = distances(vectors)
    assert apart.argmax() == 50
    cosines = np.sort(vectors @ vectors.T, axis=1)[:, ::-1][:, 1:11]
    np.testing.assert_allclose(apart, 1 - cosines.mean(axis=1), atol=1e-5)
    assert distances(vectors[:1]).tolist() == [0]


def test_a_pick_reaches_every_cluster_before_it_repeats_one() -> None:
    centres = np.eye(6, dtype=np.float32)
    vectors = normalised(np.repeat(centres, 20, axis=0) + 0.01 * unit(120, 6)).astype(np.float32)
    labelled = np.zeros(120, np.bool_)
    labelled[:20] = True
    uncertainty = np.zeros(120)
    uncertainty[np.arange(6) * 20 + 7] = 1
    picked = pick(vectors, uncertainty, labelled, 5)
    assert sorted(picked // 20) == [1, 2, 3, 4, 5]
    assert set(picked % 20) == {7}
    assert len(set(pick(vectors, uncertainty, labelled, 500).tolist())) == 100
    np.testing.assert_array_equal(pick(vectors, uncertainty, ~labelled, 9), pick(vectors, uncertainty, ~labelled, 9))


def test_maps_keep_neighbours() -> None:
    vectors = normalised(np.repeat(np.eye(12, 16), 15, axis=0) + 0.1 * unit(180, 16)).astype(np.float32)
    told: list[float] = []
    flat, curved = main_directions(vectors), tsne(vectors, most=120, progress=told.append)
    assert told == sorted(told)
    assert told[0] < 0.1
    assert told[-1] == 1
    assert (flat.method, curved.method) == ("pca", "tsne")
    assert curved.mapped.sum() == 120
    assert trustworthiness(vectors, curved.places, metric="cosine") > max(0.9, trustworthiness(vectors, flat.places))
    np.testing.assert_array_equal(curved.places, tsne(vectors, most=120).places)
    assert main_directions(vectors[:0]).places.shape == (0, 2)


def test_a_map_may_be_stopped() -> None:
    def stop(share: float) -> None:
        if share > 0.1:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        tsne(unit(60, 16), progress=stop)


def test_a_query_of_several_images() -> None:
    here, there = unit(2), unit(1, seed=3)
    np.testing.assert_allclose(combined(here), normalised(here.mean(axis=0, keepdims=True)), rtol=1e-5)
    assert float((combined(here, there) @ there.T).item()) < float((combined(here) @ there.T).item())
    for positive, negative in ((here[:0], None), (here, here)):
        with pytest.raises(UsageError, match="positive"):
            combined(positive, negative)


def test_ties_are_settled_the_same_way_for_ever() -> None:
    named = Queries(unit(3), names=["x", "y", "x"]).tie_breaks("shoes")
    assert named[0] == named[2] != named[1]
    assert (Queries(unit(3)).tie_breaks("shoes") == Queries(unit(3)).tie_breaks("shoes")).all()
    many = Queries(unit(1), names=["x"]).tie_breaks("boots")
    assert many[0] != named[0]
    spread = np.concatenate([Queries(unit(1), names=[f"{n}"]).tie_breaks("g") for n in range(500)])
    assert abs(spread.mean() - 0.5) < 0.05
    assert all(0 <= one < 1 for one in itertools.chain(named, many))
