"""The set of paths that are done."""

from hypothesis import given
from hypothesis import strategies as st

from vssl_client.folder.existing.done_paths import DonePaths


@given(st.sets(st.text()), st.sets(st.text()))
def test_done_paths_are_a_set(done: set[str], asked: set[str]) -> None:
    paths = DonePaths(done)
    every = sorted(done | asked)
    assert list(paths.missing(every)) == [path for path in every if path not in done]


def test_done_paths_hold_for_many() -> None:
    names = [f"folder/{number}.jpg" for number in range(20_000)]
    assert list(DonePaths(names[::2]).missing(names)) == names[1::2]
