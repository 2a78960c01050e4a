"""`Source`, the interface of every set of images: paths, bytes, sizes and labels."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from vssl.errors import UsageError
from vssl.images.decoding import ImageError
from vssl.images.names import encode_name, numbered
from vssl.sources.passed_over import PassedOver


class Source(ABC):
    """A set of image files, named by paths relative to it with forward slashes, in a fixed order.

    A folder and a zip archive of it have the same paths in the same order; `encode_name` makes them valid text.
    Where `lists_sizes` is true, `size` touches no disk. Where `remote` is true, each `read` waits for a network.
    """

    lists_sizes = False
    remote = False

    def __init__(self, name: str) -> None:
        self.name = encode_name(name)
        self.passed_over = PassedOver()
        """What the last complete search left out."""

    @abstractmethod
    def paths(self) -> Iterator[str]:
        """Every file with an image's extension, except hidden ones, lazily and always in the same order."""

    @abstractmethod
    def read(self, path: str, max_bytes: int) -> bytes:
        """The file's bytes; safe to call from many threads.

        Raises:
            ImageError: the file is over `max_bytes`.
            OSError: the file can't be read.
        """

    def size(self, path: str) -> int:
        """The file's bytes, counted; files and archives know it without reading.

        Raises:
            OSError: there is no such file.
        """
        return len(self.read(path, 2**31))

    def label(self, path: str) -> str | None:
        """Class of one image: its top folder, or None."""
        top, slash, _ = path.partition("/")
        return top if slash else None

    def labels(self, paths: list[str]) -> tuple[list[int], list[str]] | None:
        """Class of each image, as indices, and the sorted names of the classes; None where there are no labels."""
        return numbered([self.label(path) for path in paths])

    def close(self) -> None:  # noqa: B027 — a folder holds nothing open
        """Release what the source holds open."""


def no_images(source: Source) -> UsageError:
    """The error of a source without images."""
    said = [source.passed_over.as_text(), source.passed_over.unreadable_as_text()]
    told = "".join(f"; {line}" for line in said if line is not None)
    return UsageError(
        f"{source.name}: no images in it (looked for .jpg, .png, .webp and others in all subfolders){told}"
    )


def limited(data: bytes, max_bytes: int) -> bytes:
    """Pass `data` on unless it is longer than the limit."""
    if len(data) > max_bytes:
        raise ImageError("too_many_bytes", f"the file is over the limit of {max_bytes:,} bytes")
    return data
