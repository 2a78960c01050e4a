"""The models that come with vssl: bundles among the package's own files, `builtin:NAME` wherever a bundle is named."""

import json
import os
from contextlib import suppress
from pathlib import Path

from vssl.bundle.manifest import MANIFEST
from vssl.errors import UsageError
from vssl.objects.address import address_of

PREFIX = "builtin:"
LOCATION = Path(__file__).parent / "default_model"
"""For photographs: the one that is used if no bundle is named."""
TINY = Path(__file__).parent / "tiny_model"
"""For pictures of 32 × 32 pixels."""


def default_bundle() -> Path:
    """The folder of the default model's bundle.

    Raises:
        UsageError: this installation has none.
    """
    if not LOCATION.exists():
        raise UsageError("this installation of vssl has no default model: name a bundle")
    return LOCATION


def located(location: str | os.PathLike[str]) -> Path:
    """The path of a bundle, which a user names by a path, as `builtin:default` or `builtin:tiny`, or by an address.

    Raises:
        UsageError: no such model comes with vssl; there is no bundle at the address.
        BundleError, OSError: as `fetched`.
    """
    name = os.fspath(location)
    if (address := address_of(name)) is not None:
        from vssl.bundle.fetching import fetched  # start-up time

        return fetched(address)
    if not name.startswith(PREFIX):
        return Path(name)
    if name not in _builtin():
        raise UsageError(f"{name}: no such model comes with vssl; there are {' and '.join(_builtin())}")
    return default_bundle() if name == f"{PREFIX}default" else TINY


def builtin_name(bundle_id: str) -> str | None:
    """`builtin:NAME` of the model with this bundle's id, or None if it does not come with vssl."""
    for name, folder in reversed(_builtin().items()):
        with suppress(OSError, ValueError, LookupError):
            if json.loads((folder / MANIFEST).read_bytes())["id"] == bundle_id:
                return name
    return None


def _builtin() -> dict[str, Path]:
    return {f"{PREFIX}default": LOCATION, f"{PREFIX}tiny": TINY}
