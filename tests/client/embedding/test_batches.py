"""Batches of bounded size."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vssl_client.embedding.batches import chunked


@given(st.lists(st.integers(0, 9), max_size=50), st.integers(1, 5), st.integers(0, 20))
def test_chunks_are_as_large_as_they_may_be(items: list[int], most: int, heaviest: int) -> None:
    chunks = list(chunked(items, most, lambda item: item, heaviest))
    assert [item for chunk in chunks for item in chunk] == items
    for chunk in chunks:
        assert 1 <= len(chunk) <= most
        assert sum(chunk) <= heaviest or len(chunk) == 1
    for chunk, following in pairwise(chunks):
        assert len(chunk) == most or sum(chunk) + following[0] > heaviest
