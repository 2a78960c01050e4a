"""Several processes that write at once, and processes that are killed: what was acknowledged is there, and whole."""

import random
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.gallery.samples import FIELDS
from tests.gallery.store.writer import BATCH, put_again
from tests.paths import ROOT
from vssl_gallery.store.contract import Place, Store
from vssl_gallery.store.filters import parse_filter

Create = Callable[..., Store]


@pytest.fixture(autouse=True)
def _shared(address: str) -> None:
    if address.startswith("qdrant"):
        pytest.skip("the local mode of Qdrant serves one process")


def started(address: str, name: str, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.gallery.store.writer", address, name, *more]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def write_together(address: str, store: Store) -> None:
    """Three processes, of which this is one, put the same 60 rows five times: each is there once, as it was last."""
    writers = [started(address, store.name, "60") for _ in range(2)]
    assert [writer.stdout.readline() for writer in writers] == ["ready 0\n"] * 2  # type: ignore[union-attr]
    for writer in writers:  # all at once, however long each took to begin
        writer.stdin.write("go\n")  # type: ignore[union-attr]
        writer.stdin.flush()  # type: ignore[union-attr]
    put_again(store, 60)
    ended = [(writer.communicate(timeout=240)[0], writer.returncode) for writer in writers]
    assert ended == [("done 60\n", 0)] * 2
    ids = [name for batch in store.scan() for name in batch["id"].to_pylist()]
    assert sorted(ids) == sorted(f"image-{number}" for number in range(60))
    assert store.count_by("year") == {4: 60}


def test_three_writers_of_the_same_rows(address: str, create: Create) -> None:
    write_together(address, create())


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_writer_that_is_killed(address: str, place: Place, create: Create, kills: int) -> None:
    store = create()
    draw = random.Random(kills)
    put, gone, unknown = set[int](), set[int](), set[int]()
    for _ in range(kills):
        with started(address, store.name) as writer:
            lines = [writer.stdout.readline() for _ in range(draw.randrange(4, 16))]  # type: ignore[union-attr]
            writer.kill()
            lines += writer.stdout.readlines()  # type: ignore[union-attr]
        for line in lines:
            what, _, number = line.strip().partition(" ")
            {"put": put, "deleting": unknown, "deleted": gone}.get(what, set()).add(int(number))
        fresh = place.open(store.name)
        for batch in put - unknown:
            assert fresh.count(parse_filter({"year": batch}, FIELDS)) == BATCH
        counts = {batch: rows for batch, rows in fresh.count_by("year").items() if rows}
        assert set(counts.values()) <= {BATCH}
        assert not set(counts) & gone
        assert fresh.maintain().info.rows == sum(counts.values())
        fresh.close()
    assert put
