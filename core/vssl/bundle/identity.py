"""What makes two bundles the same encoder: their vectors may stand in one gallery."""

import hashlib
import json
from dataclasses import MISSING, asdict, fields
from typing import Any

from vssl.images.decoding import Preprocessing


def encoder_id(model_sha256: str, preprocessing: Preprocessing) -> str:
    """SHA-256 of the canonical JSON of the float32 model's hash and of the preprocessing.

    Canonical: keys in order, no spaces, and fields at their default left out. So it is the same for every precision of
    a model and after each calibration, and a new field of the preprocessing changes it only where that is used.
    """
    text = json.dumps(
        {"model": model_sha256, "preprocessing": without_defaults(preprocessing)},
        sort_keys=True,
        separators=(",", ":"),
    )
    return hashlib.sha256(text.encode()).hexdigest()


def without_defaults(preprocessing: Preprocessing) -> dict[str, Any]:
    """The fields of a preprocessing that differ from their default, and those that have none."""
    values = asdict(preprocessing)
    return {
        field.name: values[field.name]
        for field in fields(preprocessing)
        if field.default is MISSING or values[field.name] != field.default
    }


def as_told(preprocessing: Preprocessing) -> dict[str, Any]:
    """A preprocessing as a server tells it.

    What schema 1 had is always there. A later field is told where it is used: older clients refuse one that they don't
    know, and are right to do so only then.
    """
    return {"crop": preprocessing.crop, "interpolation": preprocessing.interpolation, **without_defaults(preprocessing)}
