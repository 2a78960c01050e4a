"""Addresses of objects: which words are one, and how to show it."""

import os
import re
from urllib.parse import unquote, urlsplit

from vssl.errors import UsageError

SCHEMES = ("s3", "gs", "https", "http")

# A `Path` of an address has lost a slash: flags that take a path take an address, too.
ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?!/)(.+)", re.DOTALL)


def address_of(location: str | os.PathLike[str]) -> str | None:
    """The address that a location is, such as `s3://bucket/photos`; None for a path.

    Raises:
        UsageError: it is an address of another kind, or holds a password or a query.
    """
    found = ADDRESS.fullmatch(os.fspath(location))
    if found is None:
        return None
    scheme, rest = found[1], found[2].rstrip("/")
    if scheme == "hf":
        raise UsageError(
            f"{scheme}://{rest}: not read; a tar or zip archive of a dataset has an address of its own, "
            "https://huggingface.co/datasets/OWNER/NAME/resolve/main/FILE"
        )
    if scheme not in SCHEMES:
        raise UsageError(f"{scheme}://: not read; addresses begin with {', '.join(f'{one}://' for one in SCHEMES)}")
    if "@" in rest.partition("/")[0]:
        raise UsageError(f"{scheme}://…: give no password in an address; credentials come from the environment")
    if scheme in ("http", "https") and "?" in rest:
        raise UsageError(
            f"{scheme}://{rest.partition('?')[0]}: an address with a query, such as a signed one, is not read"
        )
    return f"{scheme}://{rest}"


def split_address(address: str) -> tuple[str, str]:
    """The store of an address, and the key in it."""
    scheme, _, rest = address.partition("://")
    store, _, key = rest.partition("/")
    if scheme in ("http", "https"):
        key = unquote(urlsplit(address).path.removeprefix("/"))
    return f"{scheme}://{store}", key
