"""The default model: a bundle among the package's own files, used where no bundle is named."""

from pathlib import Path

from vssl.errors import UsageError

LOCATION = Path(__file__).parent / "default_model"


def default_bundle() -> Path:
    """The folder of the default model's bundle.

    Raises:
        UsageError: this installation has none.
    """
    if not LOCATION.exists():
        raise UsageError("this installation of vssl has no default model: name a bundle")
    return LOCATION
