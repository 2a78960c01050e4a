"""All galleries of one Qdrant."""

from typing import Any
from uuid import NAMESPACE_OID, uuid4, uuid5

from qdrant_client import QdrantClient, models

from vssl_gallery.errors import GalleryExists, UnknownGallery
from vssl_gallery.store import saved_spec
from vssl_gallery.store.columns import FIXED, Kind, check_fields, check_gallery_name
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.qdrant.conditions import half_names
from vssl_gallery.store.qdrant.connection import Connection
from vssl_gallery.store.qdrant.store import QdrantStore
from vssl_gallery.store.qdrant.versions import RECORDS, Record, is_value, records

_INDEXES: dict[Kind, models.PayloadSchemaType] = {
    "text": models.PayloadSchemaType.KEYWORD,
    "integer": models.PayloadSchemaType.INTEGER,
    "number": models.PayloadSchemaType.FLOAT,
    "boolean": models.PayloadSchemaType.BOOL,
    "time": models.PayloadSchemaType.INTEGER,
    "single": models.PayloadSchemaType.FLOAT,
}


def open_place(address: str) -> "QdrantPlace":
    """The galleries at `qdrant://HOST:PORT` or `qdrant:///FOLDER`.

    Raises:
        UsageError: not an address of Qdrant, or it refuses the key.
        StoreUnavailable: nothing answers there.
    """
    place = QdrantPlace(Connection(address))
    try:
        place.check()
    except BaseException:
        place.close()
        raise
    return place


class QdrantPlace:
    """See `vssl_gallery.store.contract.Place`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.address = connection.address

    def check(self) -> None:
        """See `contract.Place`."""
        with self._connection.asking() as client:
            client.get_collections()

    def galleries(self) -> list[str]:
        """See `contract.Place`."""
        return sorted(found["name"] for found in self._records("gallery"))

    def create(self, name: str, spec: Spec) -> QdrantStore:
        """See `contract.Place`."""
        check_gallery_name(name)
        check_fields(spec.fields)
        self._ready()
        if name in self.galleries() or name in self.aliases():
            raise GalleryExists(f"{name!r} exists already at {self.address}")
        collection = f"{RECORDS}_{name}_{uuid4().hex[:12]}"
        state = {"collection": collection, "version": 1, "next": 1, "token": "", "expires": 0.0, "aborted": []}
        payload = {"kind": "gallery", "name": name, "spec": saved_spec.to_text(spec), **state}
        self._make(collection, spec)
        with self._connection.asking() as client:
            # Of two that create the name at once, the first wins.
            never = models.Filter(must=[models.HasIdCondition(has_id=[])])
            point = models.PointStruct(id=_point("gallery", name), vector={}, payload=payload)
            client.upsert(RECORDS, [point], wait=True, update_filter=never)
        store = self.open(name)
        if store.collection != collection:
            with self._connection.asking() as client:
                client.delete_collection(collection)
            raise GalleryExists(f"{name!r} exists already at {self.address}")
        return store

    def open(self, name: str) -> QdrantStore:
        """See `contract.Place`."""
        own = self.aliases().get(check_gallery_name(name), name)
        found = [payload for payload in self._records("gallery") if payload["name"] == own]
        if not found:
            raise UnknownGallery(f"{self.address}: no gallery {name!r}; there are: {', '.join(self.galleries()[:20])}")
        spec = saved_spec.from_text(found[0].get("spec"), f"{self.address}: {own}")
        record = Record(self._connection, _point("gallery", own), own)
        return QdrantStore(self._connection, own, record, found[0]["collection"], spec)

    def drop(self, name: str) -> None:
        """See `contract.Place`."""
        store = self.open(name)
        if store.name != name:
            raise UnknownGallery(f"{self.address}: no gallery {name!r}; it is an alias of {store.name!r}")
        aliases = models.Filter(must=[is_value("kind", "alias"), is_value("name", name)])
        texts = models.Filter(must=[is_value("kind", "text"), is_value("collection", store.collection)])
        with self._connection.asking() as client:
            client.delete(RECORDS, [_point("gallery", name)], wait=True)
            client.delete(RECORDS, aliases, wait=True)
            client.delete(RECORDS, texts, wait=True)
            client.delete_collection(store.collection)

    def aliases(self) -> dict[str, str]:
        """See `contract.Place`."""
        return dict(sorted((found["alias"], found["name"]) for found in self._records("alias")))

    def set_alias(self, alias: str, name: str | None) -> None:
        """See `contract.Place`."""
        galleries = self.galleries()
        if check_gallery_name(alias) in galleries:
            raise GalleryExists(f"{alias!r} is a gallery at {self.address}; take another name for the alias")
        if name is not None and name not in galleries:
            raise UnknownGallery(f"no gallery {name!r} at {self.address}")
        if name is None and alias not in self.aliases():
            return
        point = _point("alias", alias)
        with self._connection.asking() as client:
            if name is None:
                client.delete(RECORDS, [point], wait=True)
            else:
                payload = {"kind": "alias", "alias": alias, "name": name}
                client.upsert(RECORDS, [models.PointStruct(id=point, vector={}, payload=payload)], wait=True)

    def close(self) -> None:
        """See `contract.Place`."""
        self._connection.close()

    def _records(self, kind: str) -> list[dict[str, Any]]:
        with self._connection.asking() as client:
            there = client.collection_exists(RECORDS)
        return records(self._connection, kind=kind) if there else []

    def _ready(self) -> None:
        with self._connection.asking() as client:
            if not client.collection_exists(RECORDS):
                client.create_collection(RECORDS, vectors_config={})
                self._index(client, RECORDS, {"kind": "text", "name": "text", "collection": "text"})

    def _make(self, collection: str, spec: Spec) -> None:
        """A collection for the rows of a gallery, with indexes for all that filters may name."""
        columns: dict[str, Kind] = {**FIXED, **spec.fields, "_from": "integer", "_to": "integer", "_gone": "integer"}
        for name, kind in {**FIXED, **spec.fields}.items():
            if kind in ("integer", "time"):
                columns |= dict.fromkeys(half_names(name), "integer")
        with self._connection.asking() as client:
            client.create_collection(
                collection,
                vectors_config={
                    "embedding": models.VectorParams(size=spec.dimension, distance=models.Distance.DOT),
                    "variance": models.VectorParams(
                        size=spec.dimension,
                        distance=models.Distance.DOT,
                        on_disk=True,
                        hnsw_config=models.HnswConfigDiff(m=0),  # nobody searches by it
                    ),
                },
                on_disk_payload=True,
            )
            self._index(client, collection, columns)

    def _index(self, client: QdrantClient, collection: str, columns: dict[str, Kind]) -> None:
        if not self._connection.local:
            for name, kind in columns.items():
                client.create_payload_index(collection, name, _INDEXES[kind], wait=True)


def _point(kind: str, name: str) -> str:
    return str(uuid5(NAMESPACE_OID, f"vssl/{kind}/{name}"))
