"""What a bundle's calibration says of embeddings, in the form that answers have it."""

from typing import Any

import numpy as np

from vssl.engine import Embeddings
from vssl.uncertainty.calibrated import FLAGS, NUMBERS, apply_calibration
from vssl_server.engine.model import Model


def calibrated(model: Model, embeddings: Embeddings) -> dict[str, Any]:
    """`percentile`, `confidence`, `familiarity` [N] and `flags`, a dictionary for each row; None where the bundle can't
    say.
    """
    if model.manifest.calibration is None:
        return dict.fromkeys((*NUMBERS, "flags"))
    judgement = apply_calibration(model.manifest.calibration, embeddings, model.references)
    model.metrics.judged(len(embeddings), {name: int(np.count_nonzero(judgement.flags[name])) for name in FLAGS})
    rows = zip(*(judgement.flags[name].tolist() for name in FLAGS), strict=True)
    flags = [dict(zip(FLAGS, row, strict=True)) for row in rows]
    return {name: getattr(judgement, name) for name in NUMBERS} | {"flags": flags}
