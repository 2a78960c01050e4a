"""Examples in docstrings as code: Markdown would take the `>>>` of a doctest for a quotation of a quotation."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)>>> .*(?:\n(?! *$).*)*", re.MULTILINE)
"""A doctest: from a prompt to the next empty line."""


class Doctests(griffe.Extension):
    """Puts each doctest of a docstring between fences."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: ANN401
        """Rewrite the docstring of one function, class, attribute or module."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value)
