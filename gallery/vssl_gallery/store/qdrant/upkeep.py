"""Maintenance: points that don't count any more are deleted; Qdrant itself compacts and builds its index."""

import time
from collections.abc import Callable, Iterator

from qdrant_client import models

from vssl_gallery.store.qdrant.connection import Connection
from vssl_gallery.store.qdrant.versions import Record

KEPT = 3600
"""Seconds for which a reader may still be at an older version."""

_SAMPLE, _NEIGHBOURS = 100, 10


def maintain(
    connection: Connection, record: Record, collection: str, indexed: bool, recall: Callable[[int, int], float]
) -> Iterator[str]:
    """Do what is due, and say what was done, step by step."""
    state = record.state()
    old = models.FieldCondition(key="_gone", range=models.Range(lt=time.time() - KEPT))
    ended = models.FieldCondition(key="_to", range=models.Range(lte=state.version))
    aborted = models.MatchAny(any=state.aborted)
    never_ended = models.FieldCondition(key="_to", match=aborted)
    with connection.asking() as client:
        client.delete(collection, models.Filter(must=[old, ended], must_not=[never_ended]), wait=True)
        if state.aborted:
            never_begun = models.Filter(must=[models.FieldCondition(key="_from", match=aborted)])
            client.delete(collection, never_begun, wait=True)
            client.delete_payload(collection, ["_to", "_gone"], models.Filter(must=[never_ended]), wait=True)
    yield "deleted what was deleted or replaced an hour ago or earlier"
    if indexed:
        share = recall(_SAMPLE, _NEIGHBOURS)
        record.note(recall=share)
        yield f"measured the index: it finds {share:.3f} of the true {_NEIGHBOURS} nearest"
