"""The manifest of a bundle from its bytes."""

import json
from pathlib import Path

from pydantic import ValidationError

from vssl.bundle.manifest import MANIFEST, READ_VERSIONS, Manifest, first_fault, manifest_id
from vssl.errors import BundleError
from vssl.objects.path import ObjectPath

MAX_BUNDLE_BYTES = 16 * 2**30
"""All files of a bundle together, unpacked."""


def check_size(location: Path | ObjectPath, manifest: Manifest) -> None:
    """Refuse a bundle that is too large.

    Raises:
        BundleError: it is.
    """
    total = sum(record.bytes for record in manifest.files.values())
    if total > MAX_BUNDLE_BYTES:
        raise BundleError(f"{location}: its files are {total:,} bytes, over the limit of {MAX_BUNDLE_BYTES:,}")


def parse_manifest(location: Path | ObjectPath, data: bytes) -> Manifest:
    """The manifest of the bundle at a location.

    Raises:
        BundleError: it is none, or this version does not read its schema.
    """
    try:
        fields = json.loads(data)
        found = fields.get("schema_version") if isinstance(fields, dict) else None
        if type(found) is not int or found not in READ_VERSIONS:
            raise BundleError(
                f"{location}: {MANIFEST} has schema version {found!r}, this vssl reads "
                f"{' and '.join(map(str, READ_VERSIONS))}: upgrade vssl, or export the bundle again with this version"
            )
        if fields.get("id") != manifest_id(fields):
            raise BundleError(f"{location}: {MANIFEST} does not match its id, it was changed; export the bundle again")
        return Manifest.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise BundleError(f"{location}: {MANIFEST}, {first_fault(error)}; export the bundle again") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{location}: {MANIFEST} is not valid JSON ({error}); export the bundle again") from error
