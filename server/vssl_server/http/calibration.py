"""What a bundle's calibration says of embeddings, in the form that answers have it."""

from typing import Any

from vssl.bundle.manifest import Manifest
from vssl.engine import Embeddings
from vssl.uncertainty.calibrated import FLAGS, apply_calibration


def calibrated(manifest: Manifest, embeddings: Embeddings) -> dict[str, Any]:
    """`percentile` [N], `confidence` [N] and `flags`, a dictionary for each row; None where the bundle can't say."""
    if manifest.calibration is None:
        return dict.fromkeys(("percentile", "confidence", "flags"))
    judgement = apply_calibration(manifest.calibration, embeddings)
    rows = zip(*(judgement.flags[name].tolist() for name in FLAGS), strict=True)
    flags = [dict(zip(FLAGS, row, strict=True)) for row in rows]
    return {"percentile": judgement.percentile, "confidence": judgement.confidence, "flags": flags}
