"""`manifest.json`: what a bundle says about itself, checked strictly when read."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from vssl.preprocessing import Preprocessing

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
    """What the model answers: `dimension` D of embedding and variance, and how `uncertainty` sums the variance up."""

    dimension: int = Field(ge=1, le=65536)
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
    """What a lower precision costs against `fp32`, over `images` real images.

    `cosine_min` and `cosine_mean` are between the two embeddings of an image; `knn` and `recall_at_1` are this
    precision's figure minus that of `fp32`, None where the images have no labels.
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


class Provenance(Frozen):
    """Where the model comes from: recipe as trained, data, seed, versions of what made it, git commit if known."""

    recipe: dict[str, Any]
    data: dict[str, Any]
    seed: int
    versions: dict[str, str]
    git_commit: str | None = None
    created: str


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
    calibration: None = None
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
