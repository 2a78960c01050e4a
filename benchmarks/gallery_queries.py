"""Which queries are as hard for an index as new images: the gallery's own rows, or rows with noise?

`maintain` searches an index as widely as its own queries need to find .995 of their true neighbours. This asks
LanceDB's index for the ten neighbours of new images, of rows, and of rows with noise, at each width. With `--cifar` the
new images are CIFAR-10's test images, else vectors of the same clusters as the rows.
"""

from contextlib import closing
from datetime import timedelta
from typing import Any

import lancedb
import numpy as np

from benchmarks.gallery import BATCH, K, Started, clusters, filled, folder_of, ids_of, of_cifar
from benchmarks.report import Row, parser, report
from vssl.arrays import Float32s
from vssl_gallery.store.lance.maintenance import EFFORTS, QUERIES, VECTORS, by_index
from vssl_gallery.store.perturbed import perturbed


def main() -> None:
    """Fill a gallery, index it, and print each query's recall at each width."""
    flags = parser(__doc__)
    flags.add_argument("--rows", type=int, default=100_000)
    flags.add_argument("--dimension", type=int, default=512, help="of the vectors that are made here")
    flags.add_argument("--cifar", help="an archive with folders `train` and `test`: embed it with `builtin:tiny`")
    arguments = flags.parse_args()
    count = min(arguments.rows, 25_000) if arguments.quick else arguments.rows  # fewer have no index
    if arguments.cifar:
        bank, new = of_cifar(arguments.cifar, count)
    else:
        bank, new = (clusters(n, arguments.dimension, 0, part) for part, n in enumerate((count, BATCH)))
    own = bank[np.linspace(0, count - 1, QUERIES).astype(int)]
    asked = {"new images": new, "rows": own} | {f"rows with noise {n}": perturbed(own, n) for n in (0.5, 0.7, 1.0)}
    with folder_of("lance", None) as folder, closing(Started("lance", folder)) as started:
        filled(started, folder, bank)
        table = lancedb.connect(started.address, read_consistency_interval=timedelta(0)).open_table("bench")
        rows = [{"queries": name} | recalls(table, bank, few, name == "rows") for name, few in asked.items()]
    about = {"rows": count, "k": K, "vectors": "CIFAR-10" if arguments.cifar else "clusters"}
    report("Queries that try an index", rows, about, arguments.json)


def recalls(table: Any, bank: Float32s, queries: Float32s, themselves: bool) -> Row:  # noqa: ANN401 — LanceDB has no types
    """The share of the true neighbours at each width; where queries are rows, themselves are not counted."""
    wanted = K + themselves
    true = np.argsort(-(queries @ bank.T), axis=1, kind="stable")[:, themselves:wanted]
    row: Row = {}
    for effort in EFFORTS:
        query = table.search(queries, vector_column_name=VECTORS).distance_type("dot").limit(wanted)
        found = by_index(query, wanted, effort).select(["id", "_distance"]).to_arrow()
        ids = ids_of(found.rename_columns({"query_index": "query"}), queries)
        row[f"of {effort}"] = float(np.mean([len(set(ids[n]) & set(true[n])) / K for n in range(len(queries))]))
    return row


if __name__ == "__main__":
    main()
