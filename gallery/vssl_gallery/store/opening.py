"""Which driver an address means."""

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from platformdirs import user_data_path

from vssl.errors import UsageError
from vssl_gallery.store.contract import Place

VARIABLE = "VSSL_GALLERIES"

DRIVERS = {"postgresql": "postgres", "postgres": "postgres", "qdrant": "qdrant", "s3": "gallery"}
"""The extra that an address's scheme needs; an address without a scheme is a folder."""

PACKAGES = {"gallery": ("lancedb",), "postgres": ("psycopg", "pgvector"), "qdrant": ("qdrant_client",)}
"""What each extra brings, beside pyarrow."""


def default_address() -> str:
    """The place in the variable VSSL_GALLERIES, else a folder among the user's data."""
    return os.environ.get(VARIABLE) or str(Path(user_data_path("vssl", appauthor=False), "galleries"))


def open_place(address: str) -> Place:
    """The galleries at an address: a folder, `s3://BUCKET/FOLDER`, `postgresql://…` or `qdrant://…`.

    Each driver's room has a module `place` with a function `open_place(address)`. Open it after a process has forked,
    never before.

    Raises:
        UsageError: an address of another kind, or the driver's packages are not installed.
        NotAGallery: something else is there.
        StoreUnavailable: nothing answers there.
    """
    extra = check_driver(address)
    module = import_module(f"vssl_gallery.store.{'lance' if extra == 'gallery' else extra}.place")
    return cast(Place, module.open_place(address))


def check_driver(address: str) -> str:
    """The extra whose driver the address needs; nothing is imported or opened.

    Raises:
        UsageError: an address of another kind, or the driver's packages are not installed.
    """
    scheme = address.partition("://")[0] if "://" in address else ""
    if scheme and scheme not in DRIVERS:
        raise UsageError(f"{scheme}://: galleries lie in a folder, or at s3://, postgresql:// or qdrant://")
    extra = DRIVERS.get(scheme, "gallery")
    missing = [name for name in ("pyarrow", *PACKAGES[extra]) if find_spec(name) is None]
    if missing:
        raise UsageError(f"galleries need {missing[0]}, which is not installed: pip install 'vssl[{extra}]'")
    return extra
