"""Reads and verifies a bundle.

A bundle is a directory, or a `.zip` of it. It holds `manifest.json`, the files listed there, and no others; names that
start with a dot are the system's and passed over. Reading verifies every hash. The manifest's `id` covers the manifest
itself, so no field can change unnoticed. Nothing in a bundle is executable.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from vssl.bundle.default import located
from vssl.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest
from vssl.bundle.parsing import check_size, parse_manifest
from vssl.bundle.storage import opened, read_one_past, unlisted
from vssl.errors import BundleError, UsageError

CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been read and verified. `location` is its directory or `.zip`."""

    manifest: Manifest
    location: Path

    @property
    def encoder_id(self) -> str:
        """The manifest's."""
        return self.manifest.encoder_id

    def read(self, name: str) -> bytes:
        """The bytes of one listed file, checked against the manifest once more as they are read.

        Raises:
            BundleError: the file is missing or has changed.
        """
        record = self.manifest.files[name]
        data = read_one_past(self.location, name, record.bytes)
        if len(data) != record.bytes or hashlib.sha256(data).hexdigest() != record.sha256:
            raise self._changed(name)
        return data

    def verify(self, name: str) -> None:
        """Check one listed file against the manifest, a chunk at a time.

        Raises:
            BundleError: the file is missing or has changed.
        """
        record = self.manifest.files[name]
        digest, length = hashlib.sha256(), 0
        with opened(self.location, name) as file:
            while length <= record.bytes and (chunk := file.read(CHUNK_BYTES)):
                digest.update(chunk)
                length += len(chunk)
        if length != record.bytes or digest.hexdigest() != record.sha256:
            raise self._changed(name)

    def _changed(self, name: str) -> BundleError:
        return BundleError(
            f"{self.location}: {name} does not match its hash in {MANIFEST}; copy or export the bundle again"
        )


def open_bundle(location: str | os.PathLike[str]) -> Bundle:
    """Read and verify a bundle: a folder, a `.zip` of it, or a model that comes with vssl, such as `builtin:tiny`. Of
    an address, such as `s3://BUCKET/BUNDLE`, it reads the copy in the user's cache (see `fetching`).

    Raises:
        UsageError: there is no bundle at `location`.
        BundleError: a file is missing, has changed or is not listed, or this version does not read the schema.
    """
    location = located(location)
    if not location.exists():
        raise UsageError(f"{location}: no such bundle; `vssl export RUN --out {location}` makes one")
    if not (location.is_dir() or location.is_file()):  # to open a pipe would wait for its other end
        raise UsageError(f"{location}: neither a folder nor a file, so it is no bundle")
    bundle = Bundle(parse_manifest(location, read_one_past(location, MANIFEST, MAX_MANIFEST_BYTES)), location)
    for name in unlisted(location, bundle.manifest.files):
        if not any(part.startswith(".") and part != ".." for part in name.split("/")):
            raise BundleError(f"{location}: {name} appears twice, or not listed in {MANIFEST}; export the bundle again")
    check_size(location, bundle.manifest)
    for name in bundle.manifest.files:
        bundle.verify(name)
    return bundle
