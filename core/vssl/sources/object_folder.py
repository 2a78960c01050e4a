"""Images in an object store, under a prefix."""

from collections.abc import Iterator, Sequence

from vssl.images.names import decode_name, encode_name
from vssl.objects.path import ObjectPath
from vssl.sources.passed_over import PassedOver, kind_of
from vssl.sources.patience import patiently
from vssl.sources.selections import matches
from vssl.sources.source import Source, limited


class ObjectFolder(Source):
    """Every image under an address, or those of them that match a pattern.

    Args:
        root: such as `s3://bucket/photos`; a bucket alone is all that it holds.
        pattern: names with wildcards, as `Matching` has them; empty for all.
    """

    remote = True

    def __init__(self, root: ObjectPath, pattern: Sequence[str] = ()) -> None:
        super().__init__("/".join([root.name, *pattern]))
        root.check()
        self.root, self._pattern = root, tuple(pattern)

    def paths(self) -> Iterator[str]:
        """In the order of the store, page by page: memory does not grow with the images."""
        passed = PassedOver()
        for path, _ in self.root.under():
            if self._pattern and not matches(path.split("/"), self._pattern):
                continue
            kind = kind_of(path)
            if kind is None:
                yield encode_name(path)
            else:
                passed.add(kind)
        self.passed_over = passed

    def read(self, path: str, max_bytes: int) -> bytes:
        """The object's bytes."""
        place = self.root / decode_name(path)
        return limited(patiently(lambda: place.read(max_bytes + 1)), max_bytes)

    def size(self, path: str) -> int:
        """The object's bytes, by a request."""
        return patiently((self.root / decode_name(path)).stat).size
