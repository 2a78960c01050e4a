"""Where galleries lie."""

import os
from pathlib import Path

from platformdirs import user_data_path

VARIABLE = "VSSL_GALLERIES"


def default_address() -> str:
    """The place in the variable VSSL_GALLERIES, else a folder among the user's data."""
    return os.environ.get(VARIABLE) or str(Path(user_data_path("vssl", appauthor=False), "galleries"))


def is_server(address: str) -> bool:
    """Whether galleries there are a server's."""
    return address.startswith(("http://", "https://"))
