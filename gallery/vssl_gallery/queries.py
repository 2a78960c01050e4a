"""What is asked of a gallery: vectors, and what is known of the images that they are of."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vssl.arrays import Float32s, Float64s, Floats, Mask
from vssl.errors import UsageError
from vssl.search.nearest import normalised


@dataclass(frozen=True)
class Queries:
    """Q of them. What is None is not known.

    Attributes:
        embedding: [Q, D], of unit length.
        uncertainty: [Q], of the image alone; without it no match has a probability.
        variance: [Q, D]; the scores `csd` and `mls` need it.
        ood: [Q], the image is flagged out of distribution.
        unfamiliar: [Q], the image is flagged unfamiliar.
        names: Q of them, such as the SHA-256 of each image: ties of its prediction set are settled by it, always in
            the same way. By default the vector's own bytes.
    """

    embedding: Float32s
    uncertainty: Float32s | None = None
    variance: Float32s | None = None
    ood: Mask | None = None
    unfamiliar: Mask | None = None
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.embedding)

    def tie_breaks(self, gallery: str) -> Float64s:
        """A number in [0, 1) for each query, [Q], that it always has in this gallery."""
        names = self.names or [hashlib.sha256(vector.tobytes()).hexdigest() for vector in self.embedding]
        digests = [hashlib.sha256(f"{name}\n{gallery}".encode()).digest()[:6] for name in names]
        return np.array([int.from_bytes(digest, "big") / 2**48 for digest in digests], np.float64)


def combined(positive: Floats, negative: Floats | None = None) -> Float32s:
    """One query [1, D] that is near the vectors [P, D] and far from [N, D]: the difference of their means.

    Raises:
        UsageError: there is no positive vector, or they cancel each other.
    """
    if not len(positive):
        raise UsageError("positive: name one or more images or vectors to be near to")
    mean = positive.mean(axis=0, keepdims=True)
    if negative is not None and len(negative):
        mean = mean - negative.mean(axis=0, keepdims=True)
    if np.linalg.norm(mean) < 1e-6:
        raise UsageError("positive and negative cancel each other; name fewer")
    return normalised(mean).astype(np.float32)
