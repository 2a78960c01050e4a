"""Licences of dependencies: none that is unknown or copyleft without a reason, and the page is of today."""

import pytest

from release.licences import NAMED, PAGE, Licence, all_licences, as_page


def test_each_dependency_may_be_there_and_the_page_has_it() -> None:
    licences = all_licences()
    assert [licence.fault for licence in licences if licence.fault] == []
    assert PAGE.read_text() == as_page(licences), "python -m release.licences"
    assert set(NAMED) <= {licence.package for licence in licences}, "a reason for a package that is gone"


@pytest.mark.parametrize(
    "expression", ["", "GPL-3.0-only", "AGPL-3.0", "MIT AND LGPL-2.1", "see LICENSE", "LicenseRef-Ours"]
)
def test_what_is_not_permissive_needs_a_reason(expression: str) -> None:
    assert Licence("some-package", expression, frozenset()).fault.startswith("some-package: ")
    assert Licence("orjson", expression, frozenset()).fault == ""


@pytest.mark.parametrize(
    "expression", ["MIT", "Apache-2.0 OR BSD-2-Clause", "(Apache-2.0 WITH LLVM-exception) AND 0BSD"]
)
def test_what_is_permissive_needs_none(expression: str) -> None:
    assert Licence("some-package", expression, frozenset()).fault == ""
