"""Images as text: base64 in each of the forms that clients write it in, bare or as a data URI."""

import base64
import binascii
import re
from urllib.parse import unquote

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
    """What the strict decoder, which is fast, did not take."""
    # A space inside of a line is none of base64's: it is a text of words, or a + that was lost in a form.
    lines = (unquote(text) if "%" in text else text).splitlines()
    bare = "".join(line.strip(" \t") for line in lines).translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except ValueError as error:  # characters outside ASCII are no binascii.Error
        if _ADDRESS.match(text):
            reason = "this is an address, and addresses are never opened; send the image's own bytes"
            raise binascii.Error(reason) from None
        raise binascii.Error(str(error)) from error
