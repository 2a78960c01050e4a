"""Counts what a source did not read, so that no file is left out in silence."""

import re
from collections import Counter
from dataclasses import dataclass, field

from vssl.images.names import EXTENSIONS, HEIC, extension_of, hidden

LOOP = "links in a loop"
NOTHING = "links to nothing"
HIDDEN = "hidden files"
HIDDEN_FOLDERS = "hidden folders"
SPECIAL = "pipes, sockets and devices"
BARE = "files without an extension"
OTHER = "other files"
FOLDER_LINK = "links to folders"
REPLACED = "files replaced by a later one of their name"
REPEATED = "named again in the list"

ONE = {
    LOOP: "link in a loop",
    NOTHING: "link to nothing",
    HIDDEN: "hidden file",
    HIDDEN_FOLDERS: "hidden folder",
    SPECIAL: "pipe, socket or device",
    BARE: "file without an extension",
    OTHER: "other file",
    FOLDER_LINK: "link to a folder",
    REPLACED: "file replaced by a later one of its name",
}
"""The name of a kind, for one file."""

READ_WITH = " (pip install 'vssl[heif]' reads them)"

MAX_KINDS = 100
"""Kinds counted apart, at most: a folder of `log.0001`, `log.0002`, … has one for each file."""

SHOWN = 10
"""Kinds named in a line, and folders named in an error."""


@dataclass
class PassedOver:
    """Counts of files by kind (`.cr3`, `links in a loop`), and the folders or shards that could not be read.

    Attributes:
        counts: number of files of each kind; a hidden folder counts as one, because nothing looks into it.
        unreadable: reason by folder or shard.
    """

    counts: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, files: int = 1) -> None:
        """Count files of a kind."""
        self.counts[kind if kind in self.counts or len(self.counts) < MAX_KINDS else OTHER] += files

    def as_text(self) -> str | None:
        """A line such as `passed over: 40 .cr3, 2 links in a loop`; None where nothing was."""
        if not self.counts:
            return None
        named = [
            f"{count:,} {ONE.get(kind, kind) if count == 1 else kind}{READ_WITH if kind in HEIC else ''}"
            for kind, count in self.counts.most_common(SHOWN)
        ]
        rest = self.counts.total() - sum(count for _, count in self.counts.most_common(SHOWN))
        return "passed over: " + ", ".join(named) + (f", {rest:,} of other kinds" if rest else "")

    def unreadable_as_text(self) -> str | None:
        """Lines that name what could not be read; None where everything was."""
        if not self.unreadable:
            return None
        lines = [f"  {name}: {reason}" for name, reason in list(self.unreadable.items())[:SHOWN]]
        more = len(self.unreadable) - len(lines)
        lines += [f"  … and {more:,} more"] if more else []
        what = "folder or shard" if len(self.unreadable) == 1 else "folders or shards"
        return "\n".join([f"{len(self.unreadable):,} {what} could not be read:", *lines])


def kind_of(path: str) -> str | None:
    """The kind that a file is passed over as, by its path; None for an image."""
    if hidden(path):
        return HIDDEN
    extension = extension_of(path)
    if extension in EXTENSIONS:
        return None
    if not extension:
        return BARE
    return extension if re.fullmatch(r"\.(?=.*[a-z])[a-z0-9]{1,8}", extension) else OTHER
