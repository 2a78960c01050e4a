"""`ObjectPath`: one object, or the folder of those whose keys begin with it."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from errno import EIO
from pathlib import Path
from typing import Any

from vssl.objects.address import address_of, split_address
from vssl.objects.store import open_store, told

PAGE = 1000
"""Keys in a page of a listing: what a store gives at a time."""

CUT_LISTINGS = 5
"""Pages in a row that may be cut short before a listing fails."""


@dataclass(frozen=True)
class ObjectStat:
    """What a store tells of an object; each write changes `etag`."""

    size: int
    etag: str | None
    modified_ns: int

    @property
    def etag_number(self) -> int:
        """63 bits of the etag's hash."""
        return int.from_bytes(hashlib.sha256((self.etag or "").encode()).digest()[:8]) >> 1


@dataclass(frozen=True)
class ObjectPath:
    """An object by its address, named as a `Path` names a file. Nothing is asked before a method needs it.

    Attributes:
        address: with its scheme.
        etag: the version that is read or replaced (see `seen`). Without one, reads take what is there, and writes
            replace nothing.
    """

    address: str
    etag: str | None = None

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(f"{self.address}/{name}")

    @property
    def name(self) -> str:
        """The last name; a bucket's own if there is nothing behind it."""
        return self.address.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def suffix(self) -> str:
        """The end of the name, from the last dot on."""
        return self.name[len(self.stem) :]

    @property
    def parent(self) -> "ObjectPath":
        """The folder that it lies in."""
        return ObjectPath(self.address.rpartition("/")[0])

    def check(self) -> None:
        """Open the store, without asking it for anything.

        Raises:
            UsageError: see `open_store`.
        """
        self._opened()

    def stat(self) -> ObjectStat:
        """Its size, etag and time.

        Raises:
            OSError: see `told`; so too below.
        """
        store, key = self._opened()
        with told(self.address):
            found = store.head(key)
        time = found["last_modified"]
        return ObjectStat(found["size"], found["e_tag"], int(time.timestamp() * 1e9))

    def seen(self) -> "ObjectPath":
        """The version that is there now: what is read from it is of this version, and a write replaces no other."""
        return ObjectPath(self.address, self.stat().etag)

    def read(self, most: int | None = None) -> bytes:
        """Its bytes, or the first `most` of them."""
        store, key = self._opened()
        with told(self.address):
            found = store.get(key, options=_matching(self.etag))
            if most is None or found.meta["size"] <= most:
                return bytes(found.bytes())
            data = bytearray()
            for piece in found.stream(min_chunk_size=min(most, 2**20)):
                data += piece
                if len(data) >= most:
                    break
            return bytes(data[:most])

    def read_at(self, offset: int, size: int, etag: str | None = None) -> bytes:
        """At most `size` bytes from `offset` on, of this version of the object if an etag is given."""
        if size <= 0:
            return b""
        store, key = self._opened()
        options = {"range": (offset, offset + size), **_matching(etag or self.etag)}
        with told(self.address):
            return bytes(store.get(key, options=options).bytes())

    def write(self, data: bytes) -> None:
        """Write it, whole or not at all: if there is no such object yet, or in place of the version in `etag`. Of two
        that try at once only one succeeds.

        Raises:
            FileExistsError: there is one, or it has another version by now; and other bytes.
        """
        store, key = self._opened()
        mode = "create" if self.etag is None else {"e_tag": self.etag}
        try:
            with told(self.address):
                store.put(key, data, mode=mode, use_multipart=False)
        except FileExistsError:
            # A request whose answer was lost is sent again, and meets its own object.
            if ObjectPath(self.address).read() != data:
                raise

    def unlink(self) -> None:
        """Delete it."""
        store, key = self._opened()
        with told(self.address):
            store.delete(key)

    def under(self) -> Iterator[tuple[str, int]]:
        """Paths below it and their bytes, in the order of the store (S3's is that of the keys' bytes), page by page.

        Keys that end with a slash mark folders, and are left out.
        """
        store, key = self._opened()
        prefix, last, cut = (f"{key}/" if key else ""), None, 0
        while True:
            try:
                with told(self.address):
                    for page in store.list(prefix or None, offset=last, chunk_size=PAGE):
                        for one in page:
                            last, path = one["path"], one["path"].removeprefix(prefix)
                            if path and (one["size"] or "." in path.rpartition("/")[2]):
                                yield path, one["size"]
                        cut = 0
                return
            except OSError as error:
                cut += 1
                if error.errno != EIO or cut > CUT_LISTINGS:
                    raise

    def _opened(self) -> tuple[Any, str]:
        store, key = split_address(self.address)
        return open_store(store), key


AnyPath = Path | ObjectPath


def path_of(location: str | os.PathLike[str] | ObjectPath) -> AnyPath:
    """A file or a folder as a user names it: an address, or a path.

    Raises:
        UsageError: see `address_of`.
    """
    if isinstance(location, ObjectPath):
        return location
    address = address_of(location)
    return Path(location) if address is None else ObjectPath(address)


def _matching(etag: str | None) -> dict[str, Any]:
    """The condition of a read. A weak etag (`W/`) matches nothing, not even itself."""
    return {} if etag is None or etag.startswith("W/") else {"if_match": etag}
