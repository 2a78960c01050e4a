"""The bundle: the one contract between export and everything that uses a model.

A directory, or a `.zip` of it, that holds `manifest.json` and the files it lists. Reading verifies every hash; the
manifest's own `id` covers the manifest, so no byte can change unnoticed. Nothing in a bundle is executable.
"""

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from vssl.errors import BundleError, UsageError
from vssl.files import atomic_write
from vssl.preprocessing import Preprocessing

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
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


class ModelFile(Frozen):
    """One precision of the model: its path in the bundle and its measured difference from torch in float32."""

    path: RelativePath
    parity: Parity


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
    models: dict[Literal["fp32"], ModelFile]
    calibration: None = None
    evaluation: dict[str, float]
    provenance: Provenance
    files: dict[RelativePath, FileRecord]


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been read and verified. `location` is its directory or `.zip`."""

    manifest: Manifest
    location: Path

    def read(self, name: str) -> bytes:
        """The bytes of one listed file, checked against the manifest once more as they are read."""
        data = _read(self.location, name, self.manifest.files[name].bytes)
        _check(self.location, name, self.manifest.files[name], hashlib.sha256(data).hexdigest(), len(data))
        return data


def open_bundle(location: Path) -> Bundle:
    """Read and verify a bundle.

    Raises:
        UsageError: there is no bundle at `location`.
        BundleError: a file is missing or has changed, or the schema is not one that this version reads.
    """
    if not location.exists():
        raise UsageError(f"{location}: no such bundle; `vssl export RUN --out {location}` makes one")
    try:
        manifest = _parse(location, _read(location, MANIFEST, MAX_MANIFEST_BYTES))
        bundle = Bundle(manifest, location)
        for name in manifest.files:
            bundle.read(name)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise BundleError(f"{location}: not a readable zip archive ({error})") from error
    for model in manifest.models.values():
        if model.path not in manifest.files:
            raise BundleError(f"{location}: {MANIFEST} names the model {model.path}, but does not list it in `files`")
    return bundle


def write_bundle(location: Path, fields: Mapping[str, Any], files: Mapping[str, bytes]) -> Manifest:
    """Write a bundle whole or not at all, as a `.zip` if `location` ends so, else as a directory.

    `fields` are the manifest's fields but `id` and `files`; `files` maps paths inside the bundle to their bytes.
    A bundle that is already there is replaced; anything else that is there is refused.

    Raises:
        UsageError: `location` exists and is not a bundle.
    """
    replaceable(location)
    records = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    draft = Manifest.model_validate({**fields, "files": records, "id": "0" * 64})
    manifest = draft.model_copy(update={"id": manifest_id(draft.model_dump(mode="json"))})
    contents = {MANIFEST: (manifest.model_dump_json(indent=2) + "\n").encode(), **files}
    location.parent.mkdir(parents=True, exist_ok=True)
    if location.suffix == ".zip":
        with atomic_write(location) as file, zipfile.ZipFile(file, "w") as archive:
            for name, data in contents.items():
                archive.writestr(name, data)
    else:
        _write_directory(location, contents)
    return manifest


def replaceable(location: Path) -> None:
    """Refuse to write where something other than a bundle stands (an empty folder is fine)."""
    if location.suffix == ".zip":
        if location.is_dir():
            raise UsageError(f"{location}: is a folder; name a file ending in .zip, or a folder without that ending")
    elif location.exists() and not (location / MANIFEST).is_file() and (location.is_file() or any(location.iterdir())):
        raise UsageError(f"{location}: exists and is not a bundle; name a new folder")


def manifest_id(fields: dict[str, Any]) -> str:
    """SHA-256 of the manifest's JSON with sorted keys and without `id`."""
    rest = {key: value for key, value in fields.items() if key != "id"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _parse(location: Path, data: bytes) -> Manifest:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{location}: {MANIFEST} is not valid JSON ({error}); export the bundle again") from error
    found = fields.get("schema_version") if isinstance(fields, dict) else None
    if found != SCHEMA_VERSION:
        raise BundleError(
            f"{location}: {MANIFEST} has schema version {found!r}, this vssl reads {SCHEMA_VERSION}: "
            "upgrade vssl, or export the bundle again with this version"
        )
    if fields.get("id") != manifest_id(fields):
        raise BundleError(f"{location}: {MANIFEST} does not match its id; it was changed after export, export it again")
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{location}: {MANIFEST}, field {field}: {first['msg']}") from error


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
    with zipfile.ZipFile(location) as archive:
        if name not in archive.namelist():
            raise BundleError(f"{location}: {name} is missing from the archive")
        with archive.open(name) as member:
            return member.read(most + 1)


def _check(location: Path, name: str, record: FileRecord, sha256: str, size: int) -> None:
    if size != record.bytes or sha256 != record.sha256:
        raise BundleError(f"{location}: {name} does not match its hash in {MANIFEST}; copy or export the bundle again")


def _write_directory(location: Path, contents: Mapping[str, bytes]) -> None:
    # Built beside its place and renamed into it, so that a reader never meets half a bundle.
    draft = Path(tempfile.mkdtemp(dir=location.parent, prefix=f".{location.name}."))
    try:
        draft.chmod(0o755)
        for name, data in contents.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(data)
        if location.exists():
            aside = draft / ".replaced"
            location.rename(aside)
            draft.rename(location)
            shutil.rmtree(location / ".replaced")
        else:
            draft.rename(location)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
