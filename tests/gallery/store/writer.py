"""Another process that writes to a gallery until it is killed, and says what it has done: `ADDRESS NAME [IDS]`.

With IDS it waits for a line, and puts rows of these many ids five times, in batches of 20. Without, it puts batch after
batch of 20 new rows, deletes some of the earlier ones, and maintains the gallery.
"""

import sys

from tests.gallery.samples import FIELDS, some_rows
from vssl_gallery.store.contract import Store
from vssl_gallery.store.filters import parse_filter
from vssl_gallery.store.opening import open_place

BATCH = 20


def say(what: str, batch: int) -> None:
    print(what, batch, flush=True)  # noqa: T201


def put_again(store: Store, count: int) -> None:
    for batch in range(5):
        for first in range(0, count, BATCH):
            store.upsert(some_rows(BATCH, first=first, year=[batch] * BATCH))
    say("done", count)


def put_and_delete(store: Store) -> None:
    batch = store.count() * 1000  # no batch of an earlier process
    while True:
        store.upsert(some_rows(BATCH, first=batch * BATCH, year=[batch] * BATCH))
        say("put", batch)
        if batch % 3 == 2:
            say("deleting", batch - 1)
            store.delete(parse_filter({"year": batch - 1}, FIELDS))
            say("deleted", batch - 1)
        if batch % 5 == 4:
            store.maintain()
            say("maintained", batch)
        batch += 1


if __name__ == "__main__":
    opened = open_place(sys.argv[1]).open(sys.argv[2])
    say("ready", 0)
    if len(sys.argv) > 3:
        sys.stdin.readline()
        put_again(opened, int(sys.argv[3]))
    else:
        put_and_delete(opened)
