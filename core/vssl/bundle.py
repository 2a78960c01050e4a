"""The bundle: the one contract between export and everything that uses a model.

A directory, or a `.zip` of it, that holds `manifest.json`, the files it lists, and no others (names that start with a
dot are the system's and passed over). Reading verifies every hash; the manifest's own `id` covers the manifest, so no
byte can change unnoticed. Nothing in a bundle is executable.
"""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from vssl.errors import BundleError, UsageError
from vssl.files import atomic_write
from vssl.preprocessing import Preprocessing

MANIFEST = "manifest.json"
SCHEMA_VERSION: Final = 1
MAX_MANIFEST_BYTES = 16 * 2**20
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
    outputs: Outputs
    models: dict[Precision, ModelFile] = Field(min_length=1)
    calibration: None = None
    evaluation: dict[str, float]
    provenance: Provenance
    files: dict[RelativePath, FileRecord]

    @model_validator(mode="after")
    def _models_are_files(self) -> Self:
        if MANIFEST in self.files:
            raise ValueError(f"{MANIFEST} can't list itself in `files`")
        for model in self.models.values():
            if model.path not in self.files:
                raise ValueError(f"the model {model.path} is not listed in `files`")
        return self


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been read and verified. `location` is its directory or `.zip`."""

    manifest: Manifest
    location: Path

    def read(self, name: str) -> bytes:
        """The bytes of one listed file, checked against the manifest once more as they are read.

        Raises:
            BundleError: the file is missing or has changed.
        """
        record = self.manifest.files[name]
        data = _read(self.location, name, record.bytes)
        if len(data) != record.bytes or hashlib.sha256(data).hexdigest() != record.sha256:
            raise BundleError(
                f"{self.location}: {name} does not match its hash in {MANIFEST}; copy or export the bundle again"
            )
        return data


def open_bundle(location: Path) -> Bundle:
    """Read and verify a bundle.

    Raises:
        UsageError: there is no bundle at `location`.
        BundleError: a file is missing, has changed or is not listed, or this version does not read the schema.
    """
    if not location.exists():
        raise UsageError(f"{location}: no such bundle; `vssl export RUN --out {location}` makes one")
    bundle = Bundle(_parse(location, _read(location, MANIFEST, MAX_MANIFEST_BYTES)), location)
    for name in _unlisted(location, bundle.manifest.files):
        if not any(part.startswith(".") and part != ".." for part in name.split("/")):
            raise BundleError(
                f"{location}: {name} is there twice, or not listed in {MANIFEST}; export the bundle again"
            )
    for name in bundle.manifest.files:
        bundle.read(name)
    return bundle


def write_bundle(location: Path, fields: Mapping[str, Any], files: Mapping[str, bytes]) -> Manifest:
    """Write a bundle whole or not at all, as a `.zip` if `location` ends so, else as a directory.

    `fields` are the manifest's fields but `id` and `files`; `files` maps paths inside the bundle to their bytes.
    A bundle that is already there is replaced; anything else that is there is refused.

    Raises:
        UsageError: `location` exists and is not a bundle.
        BundleError: a field of the manifest is not valid, a figure that is not a number for instance.
    """
    replaceable(location)
    records = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    try:
        draft = Manifest.model_validate({**fields, "files": records, "id": "0" * 64})
        manifest = draft.model_copy(update={"id": manifest_id(draft.model_dump(mode="json"))})
    except ValueError as error:
        raise BundleError(f"{location} can't be written: {MANIFEST}, {_first(error)}") from error
    contents = {MANIFEST: (manifest.model_dump_json(indent=2) + "\n").encode(), **files}
    location.parent.mkdir(parents=True, exist_ok=True)
    if location.suffix == ".zip":
        with atomic_write(location) as file, zipfile.ZipFile(file, "w") as archive:
            for name, data in contents.items():
                member = zipfile.ZipInfo(name)
                member.external_attr = 0o644 << 16  # else only its owner can read it once it is unpacked
                archive.writestr(member, data)
    else:
        _write_directory(location, contents)
    return manifest


def replaceable(location: Path) -> None:
    """Refuse to write where something other than a bundle stands, or more than a bundle (an empty folder is fine).

    Raises:
        UsageError: `location` may not be written to.
    """
    if not location.exists() or (location.is_dir() and not any(location.iterdir())):
        return
    if location.is_dir() == (location.suffix == ".zip"):
        raise UsageError(f"{location}: exists; a bundle is a file where its name ends in .zip, else a folder")
    try:
        fields = json.loads(_read(location, MANIFEST, MAX_MANIFEST_BYTES))
        extra = next(_unlisted(location, fields["files"]), None)
    except (BundleError, ValueError, LookupError, TypeError, RecursionError):
        raise UsageError(f"{location}: exists and is not a bundle; name another place") from None
    if extra is not None:
        raise UsageError(f"{location}: holds {extra}, which is not the bundle's and would be lost; name another place")


def manifest_id(fields: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest's JSON with sorted keys and without `id`."""
    rest = {key: value for key, value in fields.items() if key != "id"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _parse(location: Path, data: bytes) -> Manifest:
    try:
        fields = json.loads(data)
        found = fields.get("schema_version") if isinstance(fields, dict) else None
        if found != SCHEMA_VERSION:
            raise BundleError(
                f"{location}: {MANIFEST} has schema version {found!r}, this vssl reads {SCHEMA_VERSION}: "
                "upgrade vssl, or export the bundle again with this version"
            )
        if fields.get("id") != manifest_id(fields):
            raise BundleError(f"{location}: {MANIFEST} does not match its id, it was changed; export the bundle again")
        return Manifest.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise BundleError(f"{location}: {MANIFEST}, {_first(error)}; export the bundle again") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{location}: {MANIFEST} is not valid JSON ({error}); export the bundle again") from error


def _first(error: ValueError) -> str:
    """What is wrong with a manifest, in one line: its first field that is."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return f"field {field}: {first['msg']}" if field else first["msg"]


def _read(location: Path, name: str, most: int) -> bytes:
    """At most `most` + 1 bytes of one file of the bundle: one byte too many is enough to see that it is too long."""
    if location.is_dir():
        path = location / name
        if not path.is_file():
            raise BundleError(f"{location}: {name} is missing; it is no bundle, or not a whole one")
        if not path.resolve().is_relative_to(location.resolve()):
            raise BundleError(f"{location}: {name} is a link that leads out of the bundle")
        with path.open("rb") as file:
            return file.read(most + 1)
    with _archive(location, name) as archive:
        if name not in archive.namelist():
            raise BundleError(f"{location}: {name} is missing at the top of the archive; it is no bundle")
        with archive.open(name) as member:
            return member.read(most + 1)


def _unlisted(location: Path, listed: Mapping[str, Any]) -> Iterator[str]:
    """Names of the files that are neither listed nor the manifest, and of those that an archive holds twice."""
    known = {MANIFEST, *listed}
    if location.is_dir():
        found = (path.relative_to(location).as_posix() for path in location.rglob("*") if not path.is_dir())
        yield from (name for name in found if name not in known)
    else:
        with _archive(location, "its directory") as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
        for name in names:
            if name not in known:
                yield name
            known.discard(name)


@contextmanager
def _archive(location: Path, name: str) -> Iterator[zipfile.ZipFile]:
    """The open archive, whose errors name what was being read."""
    try:
        with zipfile.ZipFile(location) as archive:
            yield archive
    except BundleError:
        raise
    except Exception as error:
        # zipfile raises whatever the broken bytes lead to: BadZipFile, zlib.error, UnicodeDecodeError, …
        raise BundleError(f"{location}: {name} can't be read from the zip archive ({error})") from error


def _write_directory(location: Path, contents: Mapping[str, bytes]) -> None:
    # Built beside its place and renamed into it, so that a reader never meets half a bundle. Between the two renames
    # there is none for a moment; killed there, the old and the new one both lie in the hidden folder beside it.
    with tempfile.TemporaryDirectory(dir=location.parent, prefix=f".{location.name}.") as draft:
        new, old = Path(draft, "new"), Path(draft, "old")
        for name, data in contents.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(data)
        try:
            if location.exists():
                location.rename(old)
            new.rename(location)
        except BaseException:
            if old.exists() and not location.exists():
                old.rename(location)
            raise
