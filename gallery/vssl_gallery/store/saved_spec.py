"""A gallery's specification as the text that stores and snapshots keep."""

import json
from dataclasses import asdict

from vssl_gallery.errors import NotAGallery
from vssl_gallery.store.contract import Spec

FORMAT = 1
"""Of rows and specification together. A gallery of a higher one is refused: we would spoil it."""


def to_text(spec: Spec) -> str:
    """The specification as JSON."""
    return json.dumps({"format": FORMAT, **asdict(spec), "fields": dict(spec.fields)}, ensure_ascii=False)


def from_text(text: str | None, where: str) -> Spec:
    """The specification that a store keeps at the place `where`.

    Raises:
        NotAGallery: there is none, or a newer version wrote it.
    """
    try:
        found = json.loads(text or "")
        format = int(found.pop("format"))
        if format > FORMAT:
            raise NotAGallery(
                f"{where}: a newer vssl wrote it (format {format}, this one reads {FORMAT}): pip install --upgrade vssl"
            )
        return Spec(**found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NotAGallery(f"{where}: is not a gallery, or not a whole one; drop it, or name another one") from error
