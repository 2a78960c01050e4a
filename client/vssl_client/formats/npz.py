"""Parts as NumPy archives, one `.npz` each, with the columns of `vssl_client.formats.parquet` as arrays of N rows.

`path`, `sha256`, `label`, `error`: texts, empty where there is none. `size`: int64, −1 where the file can't be read.
`embedding`, `variance` [N, D] and `uncertainty`, `percentile`, `confidence`, `familiarity` [N]: float32, NaN where
there is none. `flags_degraded`, `flags_ood`, `flags_unfamiliar`: bool. Columns that need a calibration are left out
without one, and so is a variance that is not wanted. `model`, `version`, `id`, `source`: texts for the whole part.
"""

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np

from vssl.files import atomic_write
from vssl.uncertainty.calibrated import FLAGS, NUMBERS
from vssl_client.formats.columns import ABOUT, TEXTS, Columns, Origin, checked, every_flag, missing_vectors, reading

SUFFIX = ".npz"


def write_part(file: Path, origin: Origin, columns: Columns) -> None:
    """Write one part with all columns, whole or not at all.

    Raises:
        OSError: the disk is full, or can't be written to.
    """
    arrays: dict[str, Any] = {key: np.array(getattr(origin, key)) for key in ABOUT}
    arrays |= {name: np.array([text or "" for text in columns[name]], np.str_) for name in TEXTS}
    arrays |= {name: columns[name] for name in ("size", "embedding", "uncertainty")}
    arrays |= {name: columns[name] for name in NUMBERS if columns[name] is not None}
    arrays |= {f"flags_{name}": values for name, values in (columns["flags"] or {}).items()}
    if not missing_vectors(columns["variance"]).all():
        arrays["variance"] = columns["variance"]
    with atomic_write(file) as sink:
        np.savez(sink, **arrays)


def read_origin(part: Path) -> Origin:
    """The model and the source of a part; of its vectors only the shape is read.

    Raises:
        VsslError: it can't be read, or is not a part.
    """
    with reading(part), zipfile.ZipFile(part) as archive:
        about = {key: str(_array(archive, key)) for key in ABOUT}
        with archive.open("embedding.npy") as member:
            _, dimension = _shape(member)
        return Origin(**about, dimension=dimension)


def read_part(part: Path, columns: Collection[str]) -> Columns:
    """Some columns of all rows of a part; no other arrays are read.

    Raises:
        VsslError: it can't be read, or is not a part.
    """
    with reading(part), zipfile.ZipFile(part) as archive:
        there = {name.removesuffix(".npy") for name in archive.namelist()}
        found: Columns = {}
        for name in columns:
            if name == "flags":
                flags = {flag: _array(archive, f"flags_{flag}") for flag in FLAGS if f"flags_{flag}" in there}
                found[name] = every_flag(flags) if flags else None
            elif name == "variance" and name not in there:
                with archive.open("embedding.npy") as member:
                    found[name] = np.full(_shape(member), np.nan, np.float32)
            elif name == "label" and name not in there:  # of an older version
                with archive.open("path.npy") as member:
                    found[name] = [None] * _shape(member)[0]
            elif name in TEXTS:
                found[name] = [text or None for text in _array(archive, name).tolist()]
            else:
                found[name] = _array(archive, name) if name in there or name not in NUMBERS else None
        return checked(found, columns)


def _array(archive: zipfile.ZipFile, name: str) -> Any:  # noqa: ANN401 — an array of any type
    with archive.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _shape(member: IO[bytes]) -> tuple[int, ...]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape: tuple[int, ...] = read(member)[0]
    return shape
