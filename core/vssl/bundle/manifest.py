"""`manifest.json`: what a bundle says about itself, checked strictly when read."""

from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from vssl.arrays import Float32s
from vssl.images.decoding import Preprocessing

MANIFEST = "manifest.json"
SCHEMA_VERSION: Final = 1
MAX_FILE_BYTES = 4 * 2**30

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
RelativePath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$", max_length=200)
]
"""Letters, digits and . _ - only, no part that starts with a dot: it can't leave the bundle's directory."""


class Frozen(BaseModel):
    """A record that is checked strictly when read: unknown fields are errors, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileRecord(Frozen):
    """One file of the bundle: size in bytes and SHA-256."""

    bytes: int = Field(ge=0, le=MAX_FILE_BYTES)
    sha256: Sha256


class Outputs(Frozen):
    """What the model answers: `dimension` D of embedding and variance, and how `uncertainty` sums the variance up.

    `features` is the length of the backbone's features, where the model gives them as its fourth output.
    """

    dimension: int = Field(ge=1, le=65536)
    features: int | None = Field(default=None, ge=1, le=2**20)
    uncertainty: Literal["mean_log_variance"] = "mean_log_variance"


class Parity(Frozen):
    """Largest absolute difference from torch over `images` real images, and the limit that each was held to."""

    images: int = Field(ge=1)
    embedding: float = Field(ge=0)
    log_variance: float = Field(ge=0)
    uncertainty: float = Field(ge=0)
    limit: float = Field(gt=0)


class Change(Frozen):
    """Absolute differences |Δ| over all numbers of all images: the largest and the mean."""

    max: float = Field(ge=0)
    mean: float = Field(ge=0)


class Difference(Frozen):
    """What a precision costs over `images` real images: a lower one against `fp32`, and `fp32` against torch.

    `cosine_min` and `cosine_mean` are between the two embeddings of an image; `knn` and `recall_at_1` are this
    precision's figure minus that of `fp32`, None where the images have no labels, and for `fp32` itself.
    """

    images: int = Field(ge=1)
    embedding: Change
    variance: Change
    cosine_min: float
    cosine_mean: float
    knn: float | None = None
    recall_at_1: float | None = None


Precision = Literal["fp32", "fp16", "int8"]


class ModelFile(Frozen):
    """One precision of the model: its path in the bundle and its measured difference from torch in float32.

    `images_per_second` maps a batch size to the speed on the machine that exported, where it was measured.
    """

    path: RelativePath
    parity: Parity
    opset: int | None = None
    ir_version: int | None = None
    difference: Difference | None = None
    images_per_second: dict[Annotated[str, StringConstraints(pattern=r"^[0-9]+$")], float] = {}


class Plan(Frozen):
    """A TensorRT plan of one precision. It runs on this version and compute capability alone.

    `batches` are the least, the best and the largest number of images.
    """

    path: RelativePath
    precision: Precision
    tensorrt: str
    compute_capability: Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]+$")]
    batches: tuple[int, int, int]


Share = Annotated[float, Field(ge=0, le=1)]
Table = Annotated[list[float], Field(min_length=2)]


class Curve(Frozen):
    """A function of one number, linear between the knots `x` (ascending) and constant beyond them."""

    x: Table
    y: Table

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if len(self.x) != len(self.y) or sorted(self.x) != self.x:
            raise ValueError("a curve needs as many `y` as `x`, and `x` in ascending order")
        return self


class Reference(Frozen):
    """The images that a calibration was fitted on: how many, the SHA-256 of their pixels, their `classes` if used."""

    images: int = Field(ge=2)
    sha256: Sha256
    classes: int | None = None


class Confidence(Frozen):
    """`uncertainty` → P(the nearest neighbour has the same label), by isotonic regression on labelled images.

    `auroc` and `ece` were measured on images that the curve was not fitted on.
    """

    curve: Curve
    auroc: Share
    ece: Share


class Quantile(Frozen):
    """Split conformal: a label is in the set if its score is under `score`; equal to it, with chance `tie`."""

    score: Share
    tie: Share


Level = Annotated[str, StringConstraints(pattern=r"^0\.[0-9]{1,6}$")]
"""A part of 1 as text, such as "0.05"."""


class GalleryCalibration(Frozen):
    """What a match in a labelled gallery is worth: logistic on four numbers, then isotonic (docs/uncertainty.md).

    `weights` and `bias` make the logit of [uncertainty, similarity, margin, vote]; `p_correct`, `low` and `high` are
    curves over that logit, the latter two a 95 % interval. `conformal` maps α to its quantile; `risk` the part of
    errors among the accepted to the least `p_correct` to accept, null where none would do. `measured` holds figures
    of images that nothing here was fitted on.
    """

    images: int = Field(ge=1)
    classes: int = Field(ge=2)
    weights: tuple[float, float, float, float]
    bias: float
    p_correct: Curve
    low: Curve
    high: Curve
    conformal: dict[Level, Quantile]
    risk: dict[Level, Share | None]
    measured: dict[str, float]
    created: str


class Acceptance(Frozen):
    """Uncertainties: 95 % of the reference images stay at or under `degraded`, 99 % at or under both `ood` and the
    threshold of the novelty.
    """

    degraded: float
    ood: float


class Novelty(Frozen):
    """The pattern of the reference images' log variances: `directions` [K, D] in which it varies, and the `threshold`
    (see `Acceptance`) of the distance along them (`vssl.uncertainty.novelty`).
    """

    directions: Annotated[list[list[float]], Field(min_length=1)]
    threshold: float


class Calibration(Frozen):
    """What `vssl calibrate` found on reference images; `vssl.uncertainty.calibrated` applies it.

    `percentile`: `uncertainty` → place among the reference images, 0 … 100. `log_variance_mean` and
    `log_variance_std` are per dimension [D]. `corruptions` has, for each kind, the AUROC of spoilt against clean
    images at severities 1 to 5.
    """

    definition: Literal["mean_log_variance"] = "mean_log_variance"
    definition_version: Literal[1] = 1
    reference: Reference
    percentile: Curve
    acceptance: Acceptance
    log_variance_mean: list[float]
    log_variance_std: list[Annotated[float, Field(gt=0)]]
    novelty: Novelty | None = None
    corruptions: dict[str, Annotated[list[Share], Field(min_length=5, max_length=5)]]
    confidence: Confidence | None = None
    gallery: GalleryCalibration | None = None
    created: str

    @cached_property
    def pattern(self) -> tuple[Float32s, Float32s]:
        """Mean [D] and directions [K, D] of a novelty as arrays: every request needs them."""
        assert self.novelty is not None
        return np.array(self.log_variance_mean, np.float32), np.array(self.novelty.directions, np.float32)


class Checkpoint(Frozen):
    """How far an unfinished run had come when it was exported: `step` of the `steps` of a phase."""

    phase: Literal["encoder", "variance"]
    step: int = Field(ge=0)
    steps: int = Field(ge=1)


class Provenance(Frozen):
    """Where the model comes from: recipe as trained, data, seed, versions of what made it, git commit if known.

    `checkpoint` is None where the run was finished.
    """

    recipe: dict[str, Any]
    data: dict[str, Any]
    seed: int
    versions: dict[str, str]
    git_commit: str | None = None
    created: str
    checkpoint: Checkpoint | None = None


class Manifest(Frozen):
    """`manifest.json`. `id` is the SHA-256 of the manifest without it, file hashes included."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Name
    version: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$")]
    id: Sha256
    preprocessing: Preprocessing
    preprocessing_sha256: Sha256 | None = None
    """Hash of the pixels that the preprocessing made of a test card on the machine that wrote the bundle."""
    outputs: Outputs
    models: dict[Precision, ModelFile] = Field(min_length=1)
    engines: list[Plan] = []
    calibration: Calibration | None = None
    evaluation: dict[str, float]
    provenance: Provenance
    files: dict[RelativePath, FileRecord]

    @model_validator(mode="after")
    def _models_are_files(self) -> Self:
        if MANIFEST in self.files:
            raise ValueError(f"{MANIFEST} can't list itself in `files`")
        for path in [*(model.path for model in self.models.values()), *(plan.path for plan in self.engines)]:
            if path not in self.files:
                raise ValueError(f"the model {path} is not listed in `files`")
        return self

    @model_validator(mode="after")
    def _calibrated_in_every_dimension(self) -> Self:
        if self.calibration is not None:
            found = {len(self.calibration.log_variance_mean), len(self.calibration.log_variance_std)}
            found |= set(map(len, self.calibration.novelty.directions if self.calibration.novelty else []))
            if found != {self.outputs.dimension}:
                raise ValueError(f"the calibration is not of {self.outputs.dimension} dimensions")
        return self


def protocol_parameters(manifest: Manifest) -> dict[str, str]:
    """What a client of the Open Inference Protocol finds in a model's configuration, in Triton and in `vssl serve`."""
    how = manifest.preprocessing
    return {"vssl_bundle": manifest.id, "vssl_crop": str(how.crop), "vssl_interpolation": how.interpolation}
