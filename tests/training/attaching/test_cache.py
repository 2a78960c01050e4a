"""What a cache depends on."""

import inspect

from vssl.images import degradations
from vssl_training.attaching.cache import DRAWN_BY


def test_a_cache_notices_a_change_of_any_module_that_draws_copies() -> None:
    used = {inspect.getmodule(value) for name, value in vars(degradations).items() if not name.startswith("__")}
    drawn_by = {module for module in used if module is not None and module.__name__.startswith("vssl.images.")}
    assert {module.__name__ for module in drawn_by} > {"vssl.images.degradations"}
    assert drawn_by <= set(DRAWN_BY)
