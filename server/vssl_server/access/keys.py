"""API keys: files with one a line, what each key may do, and whose it is.

    KEY [name=N] [scopes=embed,search:G,write:G,admin] [filter=JSON]

Empty lines and lines that start with # are skipped. `filter` stands last on its line. No message quotes a key.
"""

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import orjson

from vssl.errors import UsageError
from vssl_server.wire.errors import ApiError

KEY = "vssl.key"
"""The ASGI scope's key for the `Key` that a request came with."""

ADMIN, EMBED = "admin", "embed"
USER_SCOPES = frozenset((EMBED, "search:*", "write:*"))
"""What a bare key of `--api-keys-file` may do; one of `--admin-keys-file` has `admin` alone."""

_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_PATTERNS = {
    "name": re.compile(_NAME),
    "scopes": re.compile(r"SCOPE(,SCOPE)*".replace("SCOPE", rf"(embed|admin|(search|write):(\*|{_NAME}))")),
}

logger = logging.getLogger("vssl.server")


@dataclass(frozen=True)
class Key:
    """What is known about a key: `vssl_server.access.galleries` says what its scopes and its `filter` mean there."""

    name: str | None
    scopes: frozenset[str]
    filter: Mapping[str, Any] | None = None

    def joined(self, other: "Key") -> "Key":
        """What a key may do that stands in two files: the scopes of both, and only rows that pass both filters."""
        filters = [one for one in (self.filter, other.filter) if one]
        both = {"$and": filters} if len(filters) > 1 else next(iter(filters), None)
        return Key(self.name if self.name is not None else other.name, self.scopes | other.scopes, both)


ANYBODY = Key(None, USER_SCOPES)
"""Whoever comes to a server without API keys."""


class Keys:
    """The keys that are accepted, read again whenever a file changes. Without `api_keys_file` everybody may embed."""

    def __init__(self, api_keys_file: Path | None, admin_keys_file: Path | None = None) -> None:
        """Read the files.

        Raises:
            UsageError: a file can't be read, holds no key, or has a line that is not a key.
        """
        self.open = api_keys_file is None
        self._files = [
            _KeyFile(flag, file, scopes)
            for flag, file, scopes in (
                ("--api-keys-file", api_keys_file, USER_SCOPES),
                ("--admin-keys-file", admin_keys_file, frozenset((ADMIN,))),
            )
            if file is not None
        ]

    def check(self, authorization: str | None, scope: str | None = None) -> Key:
        """Check the key in a header or in gRPC's metadata, `Bearer KEY`, and return what it may do.

        Args:
            authorization: the header's value.
            scope: what the key must allow; None: any key will do.

        Raises:
            ApiError: 401, no key or an unknown one; 403, the key does not allow that, or nobody may do it.
        """
        if not self._files and scope != ADMIN:
            return ANYBODY
        tables = [file.keys() for file in self._files]
        if scope == ADMIN and not any(ADMIN in key.scopes for table in tables for key in table.values()):
            raise ApiError(403, "administration_off", "start the server with --admin-keys-file to do this")
        scheme, _, text = (authorization or "").partition(" ")
        digest = _digest(text.strip())
        found = [table[digest] for table in tables if digest in table] if scheme.lower() == "bearer" else []
        if self.open and (found or scope != ADMIN):
            found.append(ANYBODY)
        if not found:
            message = "this server needs an API key: send the header Authorization: Bearer KEY"
            raise ApiError(401, "invalid_api_key", message, headers={"WWW-Authenticate": "Bearer"})
        key = reduce(Key.joined, found)
        if scope is not None and scope not in key.scopes:
            raise ApiError(403, "missing_scope", f"this API key may not do that: it lacks the scope {scope}")
        return key


class _KeyFile:
    """One file: its keys by their SHA-256, so that the time of a look-up reveals nothing about them."""

    def __init__(self, flag: str, file: Path, scopes: frozenset[str]) -> None:
        self.flag, self.file, self.scopes = flag, file, scopes
        self._seen = self._state()
        self._keys = self._read()

    def keys(self) -> Mapping[bytes, Key]:
        """What the file holds, or held when it was last readable."""
        state = self._state()
        if state != self._seen:
            self._seen = state
            try:
                self._keys = self._read()
                logger.warning("%s was read again: %s keys", self.file, len(self._keys))
            except UsageError as error:
                logger.error("%s; the keys that were read before stay in force", error)
        return self._keys

    def _state(self) -> tuple[int, ...] | None:
        try:
            found = self.file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev

    def _read(self) -> dict[bytes, Key]:
        keys: dict[bytes, Key] = {}
        try:
            lines = self.file.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.flag} {self.file} can't be read: {error}") from None
        for number, line in enumerate(map(str.strip, lines), 1):
            if not line or line.startswith("#"):
                continue
            try:
                text, key = _parse(line, self.scopes)
                if keys.setdefault(_digest(text), key) is not key:
                    raise ValueError("this key stands on another line too")
            except ValueError as error:
                raise UsageError(f"{self.flag} {self.file}, line {number}: {error}") from None
        if not keys:
            raise UsageError(f"{self.flag} {self.file}: holds no key; write one a line")
        return keys


def _parse(line: str, scopes: frozenset[str]) -> tuple[str, Key]:
    """A line → the key itself, and what is known about it. A ValueError says what is wrong without quoting the line."""
    text, _, rest = line.replace("\t", " ").partition(" ")
    if not text.isascii() or not text.isprintable():
        raise ValueError("a key is not ASCII, as a header must be")
    given: dict[str, str] = {}
    for word, value in _attributes(rest.strip()):
        if word in given:
            raise ValueError(f"{word}= appears twice")
        if word in _PATTERNS and not _PATTERNS[word].fullmatch(value):
            raise ValueError(f"{word}= is not valid; {_HELP[word]}")
        given[word] = value
    if "scopes" in given:
        scopes = frozenset(given["scopes"].split(","))
    return text, Key(given.get("name"), scopes, _filter(given["filter"]) if "filter" in given else None)


_HELP = {
    "name": "a name has at most 64 letters, digits and . _ -",
    "scopes": "scopes are embed, search:GALLERY, write:GALLERY and admin, with commas and no spaces between them",
}


def _attributes(rest: str) -> Iterator[tuple[str, str]]:
    while rest:
        if rest.startswith("filter="):
            yield "filter", rest.removeprefix("filter=")
            return
        part, _, rest = rest.partition(" ")
        word, equals, value = part.partition("=")
        if word not in _PATTERNS or not equals:
            raise ValueError("a key has no spaces; after it come name=…, scopes=… and, last, filter=…, or nothing")
        rest = rest.strip()
        yield word, value


def _filter(text: str) -> Mapping[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("filter= is not a JSON object; it takes the rest of the line")
    return value


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
