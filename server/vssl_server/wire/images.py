"""Images as they are sent: files, or texts in each of the forms that clients write base64 in; and how many."""

import base64
import binascii
import re
from urllib.parse import unquote

from vssl_server.settings import Settings
from vssl_server.wire.errors import ApiError
from vssl_server.wire.json_body import MAX_ELEMENTS

Encoded = bytes | str
"""An image file's bytes, or the same in base64, with or without a data URI's head."""

MAX_NAME = 1024
"""Characters of an image's name."""

_URL_SAFE = str.maketrans("-_", "+/")
_ADDRESS = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]{0,15}:)?//")


def from_base64(text: str) -> bytes:
    """Decode base64, bare or as a data URI: the standard or the URL-safe alphabet, with padding or without, in one line
    or in many.

    Raises:
        binascii.Error: it is something else.
    """
    if text[:5].lower() == "data:":
        head, _, text = text.partition(",")
        if head[-7:].lower() != ";base64":
            raise binascii.Error("a data URI must look like data:image/png;base64,…")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return _unusual(text)


def _unusual(text: str) -> bytes:
    """Decode what the strict decoder, which is fast, refused."""
    # A space inside a line is not base64: the text is words, or a form has lost its +.
    lines = (unquote(text) if "%" in text else text).splitlines()
    bare = "".join(line.strip(" \t") for line in lines).translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except ValueError as error:  # characters outside ASCII are no binascii.Error
        if _ADDRESS.match(text):
            reason = "this is an address, and addresses are never opened; send the image's own bytes"
            raise binascii.Error(reason) from None
        raise binascii.Error(str(error)) from error


def check_count(images: int, settings: Settings, field: str) -> None:
    """Refuse a request of no images (ApiError 422) or of too many (413); `field` is where they stood in it."""
    if images == 0:
        raise ApiError(422, "no_images", "the request holds no images", param=field)
    if images > settings.max_images:
        raise too_many_images(f"{images:,}", settings, field)


def too_many_images(images: str, settings: Settings, field: str) -> ApiError:
    """413: `images` is their number, or words for it."""
    message = f"the request holds {images} images, over the limit of {settings.max_images}; send several requests"
    return ApiError(413, "too_many_images", message, param=field)


def most_values(settings: Settings) -> int:
    """Values in the JSON of a full request, or marks that look like the end of one: an image's name may hold many."""
    return settings.max_images * (MAX_NAME + MAX_ELEMENTS) + 8 * MAX_ELEMENTS
