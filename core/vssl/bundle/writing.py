"""Writes a bundle whole or not at all."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vssl.bundle.default import PREFIX
from vssl.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES, SCHEMA_VERSION, Manifest, first_fault, manifest_id
from vssl.bundle.storage import read_one_past, unlisted
from vssl.errors import BundleError, UsageError
from vssl.files import atomic_write, write_directory


def write_bundle(location: Path, fields: Mapping[str, Any], files: Mapping[str, bytes]) -> Manifest:
    """Write a bundle whole or not at all, as a `.zip` if `location` ends so, else as a directory.

    `fields` are the manifest's fields but `id`, `files` and the schema's version, which is this vssl's; `files` maps
    paths inside the bundle to their bytes.
    A bundle that is already there is replaced; anything else that is there is refused.

    Raises:
        UsageError: `location` exists and is not a bundle.
        BundleError: a field of the manifest is not valid, a figure that is not a number for instance.
    """
    replaceable(location)
    records = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    try:
        computed = {"schema_version": SCHEMA_VERSION, "files": records, "id": "0" * 64}
        draft = Manifest.model_validate({**fields, **computed})
        manifest = draft.model_copy(update={"id": manifest_id(draft.model_dump(mode="json"))})
        text = manifest.model_dump_json(indent=2) + "\n"
    except ValueError as error:
        raise BundleError(f"{location} can't be written: {MANIFEST}, {first_fault(error)}") from error
    contents = {MANIFEST: text.encode(), **files}
    location.parent.mkdir(parents=True, exist_ok=True)
    if location.suffix == ".zip":
        with atomic_write(location) as file, zipfile.ZipFile(file, "w") as archive:
            for name, data in contents.items():
                member = zipfile.ZipInfo(name)
                member.external_attr = 0o644 << 16  # else only its owner can read it once it is unpacked
                archive.writestr(member, data)
    else:
        write_directory(location, contents)
    return manifest


def replaceable(location: Path) -> None:
    """Refuse to write where something other than a bundle stands, or more than a bundle (an empty folder is fine).

    Raises:
        UsageError: `location` may not be written to.
    """
    if str(location).startswith(PREFIX):
        raise UsageError(
            f"{location}: comes with vssl and stays as it is; copy the folder that `vssl info {location}` names, "
            "and name the copy"
        )
    if not location.exists() or (location.is_dir() and not any(location.iterdir())):
        return
    if location.is_dir() == (location.suffix == ".zip"):
        raise UsageError(f"{location}: exists; a bundle is a file where its name ends in .zip, else a folder")
    try:
        fields = json.loads(read_one_past(location, MANIFEST, MAX_MANIFEST_BYTES))
        extra = next(unlisted(location, fields["files"]), None)
    except (BundleError, ValueError, LookupError, TypeError, RecursionError):
        raise UsageError(f"{location}: exists and is not a bundle; name another place") from None
    if extra is not None:
        raise UsageError(f"{location}: holds {extra}, which is not the bundle's and would be lost; name another place")
