"""`manifest.json`: the bundle's record of itself, checked strictly when read."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from vssl.bundle.calibration_record import Calibration
from vssl.bundle.record import Frozen, Sha256
from vssl.images.decoding import Preprocessing

MANIFEST = "manifest.json"
SCHEMA_VERSION: Final = 1
MAX_FILE_BYTES, MAX_MANIFEST_BYTES = 4 * 2**30, 16 * 2**20

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
RelativePath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$", max_length=200)
]
"""Letters, digits and . _ - only, no part that starts with a dot: it can't leave the bundle's directory."""


class FileRecord(Frozen):
    """One file of the bundle: size in bytes and SHA-256."""

    bytes: int = Field(ge=0, le=MAX_FILE_BYTES)
    sha256: Sha256


class Outputs(Frozen):
    """The model's outputs: `dimension` D of embedding and variance, and how `uncertainty` sums the variance up.

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
    images_per_second: dict[Annotated[str, StringConstraints(pattern=r"^[0-9]+$")], float] = Field(default_factory=dict)


class Plan(Frozen):
    """A TensorRT plan of one precision. It runs on this version and compute capability alone.

    `batches` are the least, the best and the largest number of images.
    """

    path: RelativePath
    precision: Precision
    tensorrt: str
    compute_capability: Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]+$")]
    batches: tuple[int, int, int]


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
    engines: list[Plan] = Field(default_factory=list)
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
    """The parameters of a model's configuration under the Open Inference Protocol, in Triton and in `vssl serve`."""
    how = manifest.preprocessing
    return {"vssl_bundle": manifest.id, "vssl_crop": str(how.crop), "vssl_interpolation": how.interpolation}


def manifest_id(fields: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest's JSON with sorted keys and without `id`."""
    rest = {key: value for key, value in fields.items() if key != "id"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def first_fault(error: ValueError) -> str:
    """The first fault that pydantic found in a manifest, in one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return f"field {field}: {first['msg']}" if field else first["msg"]
