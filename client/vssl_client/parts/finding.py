"""The parts of a folder, found by their names."""

from pathlib import Path

from vssl.errors import UsageError
from vssl_client.formats.contract import FORMATS, PART, Format, open_format


def parts_of(folder: Path, suffix: str = ".parquet") -> list[Path]:
    """The finished parts of a folder, in order."""
    found = [part for part in folder.iterdir() if (name := PART.fullmatch(part.name)) and name[2] == suffix]
    return sorted(found, key=number_of)


def number_of(part: Path) -> int:
    """The number in a part's name."""
    return int(part.stem.removeprefix("part-"))


def other_files_in(folder: Path, suffix: str) -> list[str]:
    """Names of what is not a part of this format, without hidden files, which readers of the folder skip."""
    names = (entry.name for entry in folder.iterdir() if entry.name[0] not in "._")
    return sorted(name for name in names if not ((found := PART.fullmatch(name)) and found[2] == suffix))


def find_parts(folder: Path) -> tuple[Format, list[Path]]:
    """The format of a folder's parts, and the parts.

    Raises:
        UsageError: it holds no parts, or something named like a part that is not one.
    """
    names = FORMATS if folder.is_dir() else ()
    kinds = [name for name in names if parts_of(folder, f".{name}")]
    if not kinds:
        raise UsageError(f"{folder}: holds no embeddings; `vssl embed SOURCE -o {folder}` writes them")
    like = [name for name in other_files_in(folder, f".{kinds[0]}") if name.startswith("part-")]
    if like:
        raise UsageError(f"{folder}: {like[0]} is not named as a part of it is; move it out of the folder")
    return open_format(kinds[0]), parts_of(folder, f".{kinds[0]}")
