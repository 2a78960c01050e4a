"""The model that comes in the box: a bundle among the package's own files, for whoever names none."""

from pathlib import Path

from vssl.errors import UsageError

LOCATION = Path(__file__).parent / "default_model"


def default_bundle() -> Path:
    """Where the default model's bundle lies.

    Raises:
        UsageError: this installation has none.
    """
    if not LOCATION.exists():
        raise UsageError("this installation of vssl has no default model: name a bundle")
    return LOCATION
