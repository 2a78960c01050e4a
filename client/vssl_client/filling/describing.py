"""Images of a source, and what a table says of them, as rows of a gallery will have it."""

from collections.abc import Mapping

from vssl_client.folder.reading import ImageFile
from vssl_gallery.errors import InvalidRows
from vssl_gallery.images import Described, Fields, meta_text
from vssl_gallery.store.contract import Spec

Known = Fields
"""The gallery's fields, `label`, and anything else, which goes to meta."""


def described(file: ImageFile, known: Known, spec: Spec) -> Described:
    """An image of a source; its id is its path, its label by default the source's."""
    label = known.get("label", file.label)
    own = {name: value for name, value in known.items() if name in spec.fields}
    rest = {name: value for name, value in known.items() if name not in spec.fields and name != "label"}
    text = None if label in (None, "") else str(label)
    return Described(file.path, file.sha256, file.size, text, meta_text(rest or None), own)


def check_known(known: Mapping[str, Known], spec: Spec) -> None:
    """Refuse fields that the gallery can't take, before anything is embedded.

    Args:
        known: of each image by its path.
        spec: of the gallery.

    Raises:
        InvalidRows: a value of another type than declared, or a text that is too long; names the image and the field.
    """
    for path, fields in known.items():
        if (reason := described(ImageFile("id"), fields, spec).unfit(spec)) is not None:
            raise InvalidRows(f"{path}: {reason}")
