"""What scopes mean for a gallery, against a table written by hand."""

import pytest

from vssl_gallery.store.filters import Equal
from vssl_server.access.galleries import Need, administers, may, own_filter, require, visible
from vssl_server.access.keys import ANYBODY, Key
from vssl_server.wire.errors import ApiError


@pytest.mark.parametrize(
    ("scopes", "search", "write"),
    [
        ("search:shoes", 0, 403),
        ("write:shoes", 403, 0),
        ("search:*,write:shoes", 0, 0),
        ("search:boots,write:boots", 404, 404),
        ("search:shoe,write:shoes2", 404, 404),
        ("embed,admin", 404, 404),
        ("", 404, 404),
    ],
)
def test_what_a_key_may_do_with_shoes(scopes: str, search: int, write: int) -> None:
    key = Key(None, frozenset(scopes.split(",")))
    needs: list[tuple[Need, int]] = [("search", search), ("write", write)]
    for need, status in needs:
        if not status:
            require(key, "shoes", need)
            continue
        with pytest.raises(ApiError) as raised:
            require(key, "shoes", need)
        code = {404: "unknown_gallery", 403: "missing_scope"}[status]
        assert (raised.value.status, raised.value.code) == (status, code)
    assert may(key, "shoes") == [need for need, status in needs if not status]
    assert visible(key, ["shoes"]) == ([] if search == write == 404 else ["shoes"])


def test_anybody_may_do_all_but_administer() -> None:
    assert may(ANYBODY, "any") == ["search", "write"]
    assert not administers(ANYBODY)


def test_a_key_of_two_files_has_both_scopes_and_both_filters() -> None:
    one, two = Key("a", frozenset(("embed",)), {"x": 1}), Key("b", frozenset(("admin",)), {"y": 2})
    assert one.joined(two) == Key("a", frozenset(("embed", "admin")), {"$and": [{"x": 1}, {"y": 2}]})
    assert Key(None, frozenset()).joined(two).filter == {"y": 2}
    assert one.joined(ANYBODY).filter == {"x": 1}


def test_a_gallery_without_the_fields_of_a_filter_does_not_exist() -> None:
    key = Key("north", frozenset(("search:*",)), {"tenant": "north"})
    assert own_filter(key, "shoes", {"tenant": "text"}) == Equal("tenant", "text", "north")
    for fields in ({}, {"tenant": "integer"}):
        with pytest.raises(ApiError) as raised:
            own_filter(key, "shoes", fields)  # type: ignore[arg-type]
        assert raised.value.status == 404
    assert own_filter(ANYBODY, "shoes", {}) is None
