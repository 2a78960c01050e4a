"""`GalleryInfo`: what the server tells of a gallery to a key."""

from collections.abc import Mapping, Sequence
from typing import Any

from vssl_gallery.gallery import LABELLED, Gallery
from vssl_gallery.view import View
from vssl_server.access.galleries import may
from vssl_server.access.keys import Key


def gallery_info(view: View, key: Key, aliases: Mapping[str, str], served: Sequence[str]) -> dict[str, Any]:
    """Its state now, of the rows that the key may see.

    Args:
        view: of the key.
        key: of the request.
        aliases: of the place.
        served: the encoder ids of the models that this server serves.
    """
    gallery, spec = view.gallery, view.gallery.spec
    info = gallery.info()
    record, why = gallery.calibration()
    return {
        "name": gallery.name,
        "model": spec.model,
        "model_version": spec.model_version,
        "encoder_id": spec.encoder_id,
        "bundle_id": spec.bundle_id,
        "dimension": spec.dimension,
        "fields": dict(spec.fields),
        "keep_thumbnails": spec.keep_thumbnails,
        "rows": info.rows if view.own is None else gallery.count(view.own),
        "version": info.version,
        "indexed_rows": info.indexed_rows,
        "recall": info.recall,
        "bytes": info.size,
        "calibration": "fitted" if record is not None else why,
        "classes": None if record is None else len(record.classes),
        "labelled": gallery.count(view.parse(LABELLED)),
        "aliases": sorted(alias for alias, name in aliases.items() if name == gallery.name),
        "scopes": may(key, gallery.name),
        "served": spec.encoder_id in served,
    }


def fits(gallery: Gallery, model_encoder: str, fields: Mapping[str, str], keep_thumbnails: bool) -> bool:
    """Whether a gallery is what somebody would create."""
    spec = gallery.spec
    return (spec.encoder_id, dict(spec.fields), spec.keep_thumbnails) == (model_encoder, dict(fields), keep_thumbnails)
