"""Parts as NumPy archives, one `.npz` each, with the columns of `vssl_client.table` as arrays of N rows.

`path`, `sha256`, `error`: texts, empty where there is none. `size`: int64, −1 where the file can't be read.
`embedding`, `variance` [N, D] and `uncertainty`, `percentile`, `confidence` [N]: float32, NaN where there is none.
`flags_degraded`, `flags_ood`: bool. What the model has no calibration for is left out. `model`, `version`, `id`,
`source`: texts for the whole part.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from vssl.files import atomic_write
from vssl_client.rows import ABOUT, Origin, Rows, unreadable

SUFFIX = ".npz"


def write_part(file: Path, origin: Origin, rows: Rows) -> None:
    """Write one part, whole or not at all.

    Raises:
        OSError: the disk is full, or can't be written to.
    """
    result = rows.result
    arrays: dict[str, Any] = {key: np.array(getattr(origin, key)) for key in ABOUT}
    arrays["path"] = np.array(rows.paths, np.str_)
    arrays["sha256"] = np.array([sha256 or "" for sha256 in rows.hashes], np.str_)
    arrays["size"] = np.array([-1 if size is None else size for size in rows.sizes], np.int64)
    for name in ("embedding", "variance"):
        vectors = getattr(result, name)
        blank = np.full((len(rows), origin.dimension), np.nan, np.float32)
        arrays[name] = vectors if vectors.shape[1] else blank
    arrays["uncertainty"] = result.uncertainty
    arrays |= {name: values for name in ("percentile", "confidence") if (values := getattr(result, name)) is not None}
    arrays |= {f"flags_{name}": values for name, values in (result.flags or {}).items()}
    arrays["error"] = np.array([reason or "" for reason in rows.reasons], np.str_)
    with atomic_write(file) as sink:
        np.savez(sink, **arrays)


def read_origin(part: Path) -> Origin:
    """Which model and which source a part comes from.

    Raises:
        VsslError: it is not a part that can be read.
    """
    about = _read(part, *ABOUT, "embedding")
    return Origin(**{key: str(about[key]) for key in ABOUT}, dimension=about["embedding"].shape[1])


def read_done(part: Path) -> tuple[list[str], list[str | None]]:
    """The paths in a part, and for each the reason why it has no embedding, or None.

    Raises:
        VsslError: it is not a part that can be read.
    """
    found = _read(part, "path", "error")
    return found["path"].tolist(), [reason or None for reason in found["error"].tolist()]


def _read(part: Path, *names: str) -> dict[str, Any]:
    try:
        with part.open("rb") as file, np.load(file) as arrays:
            return {name: arrays[name] for name in names}
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile) as error:
        raise unreadable(part, error) from error
