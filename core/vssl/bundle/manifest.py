"""`manifest.json`: the bundle's record of itself, checked strictly when read."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from vssl.bundle.calibration_record import Calibration
from vssl.bundle.identity import as_told, encoder_id
from vssl.bundle.record import Frozen, RelativePath, Sha256, Word
from vssl.images.decoding import Preprocessing

MANIFEST = "manifest.json"
SCHEMA_VERSION: Final = 2
"""Of the bundles that are written. The fields that came with 2 are optional, so that 1 is read as it stands."""
READ_VERSIONS: Final = (1, 2)
MAX_FILE_BYTES, MAX_MANIFEST_BYTES = 4 * 2**30, 16 * 2**20

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class FileRecord(Frozen):
    """One file of the bundle: size in bytes and SHA-256."""

    bytes: int = Field(ge=0, le=MAX_FILE_BYTES)
    sha256: Sha256


class Outputs(Frozen):
    """The model's outputs: `dimension` D of embedding and variance, and how `uncertainty` sums the variance up.

    `features` is the length of the backbone's features, where the model gives them as its fourth output.
    `embedding_of` names what of the backbone the embedding is made of (`features`, `maps`, `mean`), where it is known.
    """

    dimension: int = Field(ge=1, le=65536)
    features: int | None = Field(default=None, ge=1, le=2**20)
    embedding_of: Word | None = None
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

    `cosine_min` and `cosine_mean` are between the two embeddings of an image, `centred_cosine` is the mean of those
    after the mean embedding of all images is taken off: photographs of one kind lie close together, so that a cosine of
    .99 may hide other neighbours (None in older bundles, and for a single image). `knn` and `recall_at_1` are this
    precision's figure minus that of `fp32`, None where the images have no labels, and for `fp32` itself.
    """

    images: int = Field(ge=1)
    embedding: Change
    variance: Change
    cosine_min: float
    cosine_mean: float
    centred_cosine: float | None = None
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


Channels = tuple[float, float, float]
Scale = Annotated[float, Field(gt=0)]


class Normalisation(Frozen):
    """What the model does to its input in 0 … 1 first: minus `mean`, through `std`, for red, green and blue.

    For people to read: it happens inside the ONNX, so that it is no part of the preprocessing or of the encoder's id.
    """

    mean: Channels
    std: tuple[Scale, Scale, Scale]


class Backbone(Frozen):
    """Whose network is inside: where it is from (`timm`, `torchvision`, `hf`, …), its name there, the SHA-256 of the
    weights that it started from, and their licence; null is what is not known.
    """

    source: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    architecture: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    weights_sha256: Sha256 | None = None
    licence: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None


class Manifest(Frozen):
    """`manifest.json`. `id` is the SHA-256 of the manifest without it, file hashes included."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    name: Name
    version: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$")]
    id: Sha256
    preprocessing: Preprocessing
    preprocessing_sha256: Sha256 | None = None
    """Hash of the pixels that the preprocessing made of a test card on the machine that wrote the bundle."""
    normalisation: Normalisation | None = None
    backbone: Backbone | None = None
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
        familiarity = self.calibration.familiarity if self.calibration else None
        if familiarity is not None and familiarity.file not in self.files:
            raise ValueError(f"the calibration's {familiarity.file} is not listed in `files`")
        return self

    @model_validator(mode="after")
    def _calibrated_in_every_dimension(self) -> Self:
        if self.calibration is not None:
            found = {len(self.calibration.log_variance_mean), len(self.calibration.log_variance_std)}
            found |= set(map(len, self.calibration.novelty.directions if self.calibration.novelty else []))
            found |= {len(kind.shift) for kind in (self.calibration.kinds or {}).values()}
            found |= set(map(len, self.calibration.discriminants or []))
            if found != {self.outputs.dimension}:
                raise ValueError(f"the calibration is not of {self.outputs.dimension} dimensions")
        return self

    @cached_property
    def encoder_id(self) -> str:
        """Names the encoder, by which vectors can be compared: unlike `id`, no calibration changes it."""
        model = self.models.get("fp32") or next(iter(self.models.values()))
        return encoder_id(self.files[model.path].sha256, self.preprocessing)


def protocol_parameters(manifest: Manifest) -> dict[str, str]:
    """The parameters of a model's configuration under the Open Inference Protocol, in Triton and in `vssl serve`."""
    how = as_told(manifest.preprocessing)
    return {
        "vssl_bundle": manifest.id,
        "vssl_encoder": manifest.encoder_id,
        **{f"vssl_{key}": str(value) for key, value in how.items() if key != "size"},
    }


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
