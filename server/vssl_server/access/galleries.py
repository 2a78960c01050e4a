"""What a key may do with galleries. `search:G` reads gallery G, `write:G` changes it, and `*` stands for all of them.

A gallery for which a key has neither does not exist for it. An alias counts as the gallery that it means.
"""

import logging
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Literal

from vssl_gallery.errors import GalleryError
from vssl_gallery.store.columns import FieldType
from vssl_gallery.store.filters import Filter, parse_filter
from vssl_server.access.keys import ADMIN, Key
from vssl_server.wire.errors import ApiError

Need = Literal["search", "write"]
NEEDS: tuple[Need, ...] = ("search", "write")

logger = logging.getLogger("vssl.server")


def may(key: Key, gallery: str) -> list[Need]:
    """What the key may do with a gallery, by its real name; nothing: it may not see it."""
    return [need for need in NEEDS if key.scopes & {f"{need}:*", f"{need}:{gallery}"}]


def require(key: Key, gallery: str, need: Need) -> None:
    """Return if the key may do that.

    Args:
        key: of the request.
        gallery: by its real name.
        need: what the request does.

    Raises:
        ApiError: 404, it may not see the gallery; 403, it may, and may not do that.
    """
    allowed = may(key, gallery)
    if not allowed:
        raise unknown(gallery)
    if need not in allowed:
        message = f"this API key may not do that: it lacks the scope {need}:{gallery}"
        raise ApiError(403, "missing_scope", message)


def unknown(gallery: str) -> ApiError:
    """404: the same for a gallery that is not there as for one that the key may not see."""
    return ApiError(404, "unknown_gallery", f"no gallery {gallery!r} for this key; GET /v1/galleries lists them")


def outside_filter(what: str) -> ApiError:
    """403: it would reach rows outside the key's filter."""
    return ApiError(403, "outside_filter", f"this API key has a filter, and {what}")


def own_filter(key: Key, gallery: str, fields: Mapping[str, FieldType]) -> Filter | None:
    """The key's filter as a gallery with those fields understands it.

    Raises:
        ApiError: 404, the gallery lacks a field of the filter: then no row of it is known to be the key's.
    """
    try:
        return parse_filter(key.filter, fields)
    except GalleryError as error:
        _warn(gallery, key.name, str(error))
        raise unknown(gallery) from None


@cache  # it comes with each request
def _warn(gallery: str, name: str | None, why: str) -> None:
    logger.warning("gallery %s does not exist for key %s, whose filter does not fit it: %s", gallery, name, why)


def refuse_filtered(key: Key, what: str) -> None:
    """Refuse what concerns a whole gallery to a key that may see a part of it.

    Raises:
        ApiError: 403.
    """
    if key.filter is not None:
        raise outside_filter(what)


def visible(key: Key, galleries: Iterable[str]) -> list[str]:
    """Those that the key may see."""
    return [name for name in galleries if may(key, name)]


def administers(key: Key) -> bool:
    """Whether it has the scope `admin`, which sees the jobs of every gallery."""
    return ADMIN in key.scopes
