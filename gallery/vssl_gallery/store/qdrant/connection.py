"""One Qdrant: a server by its address, or a folder that the client keeps itself (its local mode)."""

import os
import sqlite3
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from urllib.parse import parse_qs, urlsplit

from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from vssl.errors import UsageError
from vssl_gallery.errors import GalleryError, StoreFull, StoreUnavailable, UnknownGallery

TIMEOUT = 30
"""Seconds for one request."""


class Connection:
    """For many threads at once. `asking` gives the client and turns its errors into ours."""

    def __init__(self, address: str) -> None:
        try:
            url = urlsplit(address)
            host, port, key = url.hostname, url.port or 6333, url.password or os.environ.get("QDRANT_API_KEY")
        except ValueError:
            raise UsageError("qdrant://: not an address; write qdrant://HOST:PORT, or qdrant:///FOLDER") from None
        self.local = host is None
        self._lock: AbstractContextManager[Any] = nullcontext()
        if host is None:
            if not url.path.strip("/"):
                raise UsageError("qdrant://: name a server, qdrant://HOST:PORT, or a folder, qdrant:///FOLDER")
            self.address = f"qdrant://{url.path}"
            with _translated(self.address):
                self._client, self._lock = _shared(url.path)
            return
        self.address = f"qdrant://{host}:{port}"
        scheme = "https" if parse_qs(url.query).get("tls", ["0"])[0] in ("1", "true") else "http"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a key goes without TLS: documented
            at = f"{scheme}://{host}:{port}"
            self._client = QdrantClient(url=at, api_key=key, timeout=TIMEOUT, check_compatibility=False)

    @contextmanager
    def asking(self) -> Iterator[QdrantClient]:
        """The client; in local mode it serves one thread at a time."""
        with self._lock, _translated(self.address), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that local mode is slow in large galleries: documented
            yield self._client

    def close(self) -> None:
        """Let go of it. A folder is free for other processes when nobody in this one has it open."""
        if self.local:
            _released(self._client)
        else:
            self._client.close()


class _Folder:
    def __init__(self, path: str) -> None:
        self.client, self.lock, self.users = QdrantClient(path=path), threading.RLock(), 0


_folders: dict[str, _Folder] = {}
_opening = threading.Lock()


def _shared(path: str) -> tuple[QdrantClient, threading.RLock]:
    """The one client that this process may have of a folder."""
    with _opening:
        folder = _folders.get(path) or _Folder(path)
        _folders[path] = folder
        folder.users += 1
        return folder.client, folder.lock


def _released(client: QdrantClient) -> None:
    with _opening:
        for path, folder in list(_folders.items()):
            if folder.client is client:
                folder.users -= 1
                if folder.users == 0:
                    folder.client.close()
                    del _folders[path]


@contextmanager
def _translated(address: str) -> Iterator[None]:
    try:
        yield
    except UnexpectedResponse as error:
        raise _of_status(error, address) from error
    except ResponseHandlingException as error:
        raise StoreUnavailable(
            f"{address}: no answer from Qdrant; nothing is lost, try again ({error.source})"
        ) from error
    except sqlite3.Error as error:
        if "full" in str(error):
            raise StoreFull(f"{address}: the disk is full; what was acknowledged is kept") from error
        raise StoreUnavailable(f"{address}: its files can't be used: {error}") from error
    except RuntimeError as error:
        if "already accessed" in str(error):
            raise StoreUnavailable(
                f"{address}: another process has this folder open; a server serves several"
            ) from error
        raise
    except ValueError as error:
        if "not found" in str(error):
            raise UnknownGallery(f"{address}: the gallery is gone; somebody dropped it") from error
        raise


def _of_status(error: UnexpectedResponse, address: str) -> GalleryError | UsageError:
    status, text = error.status_code or 0, error.content.decode(errors="replace")[:200]
    if status == 507 or "No space left" in text:
        return StoreFull(f"{address}: the disk of Qdrant is full; what was acknowledged is kept")
    if status == 404:
        return UnknownGallery(f"{address}: the gallery is gone; somebody dropped it")
    if status in (401, 403):
        return UsageError(f"{address}: Qdrant refuses the key; set QDRANT_API_KEY")
    if status in (408, 429) or status >= 500:
        return StoreUnavailable(f"{address}: Qdrant can't answer now; nothing is lost, try again ({status} {text})")
    return GalleryError(f"{address}: Qdrant refuses a request: {status} {text}")
