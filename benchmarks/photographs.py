"""What `vssl attach` makes of a pretrained backbone, on photographs of clothes by senders that it never saw.

`python -m benchmarks.photographs --weights FILE --data CLOTHES --photos PHOTOS --free FREE --work FOLDER --json FILE`.
CLOTHES has `train`, `val` and `test` class folders; heads are attached on `train`. PHOTOS are photographs of many
kinds, only ever asked. FREE are others, to attach on. All degradations that are asked about are the judge's
(`photographs_judge`), of strengths U(0, 1). Nothing is chosen on `test` or on PHOTOS. Tables may be named; each goes
into a file of its own beside FILE. The backbone's answers are kept in `--work`.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import photographs_hands as by_hands
from benchmarks import photographs_tables as tables
from benchmarks.photographs_heads import Study, bench
from benchmarks.report import Row, parser, report

TABLES: dict[str, tuple[str, Callable[[Study], list[Row]]]] = {
    "cost": ("What attaching costs", tables.cost),
    "quality": ("kNN and R@1 on clothes of senders never seen", tables.quality),
    "kinds": ("Degraded clothes of senders never seen", tables.kinds),
    "told": ("Which kind of degradation a flagged picture is told to be", tables.told),
    "predicted": ("Squared error, foretold and real", tables.predicted),
    "hands": ("What the head is worth, by senders and by hands that degrade", by_hands.hands),
    "default": ("The default model on the same pictures", by_hands.default),
    "novelty": ("Rank correlation of u with the error, and with the novelty of the lower stages", by_hands.novelty),
    "tiers": ("Wrong neighbours among clothes of senders never seen", tables.tiers),
    "left_out": ("Each kind of degradation left out of the training", tables.left_out),
    "elsewhere": ("Heads on another kind of picture; AUROC of each kind from strength .5", tables.elsewhere),
    "flags": ("Clean images flagged as degraded", tables.flags),
}


def main() -> None:
    """Print the tables."""
    flags = parser(__doc__)
    flags.add_argument("tables", nargs="*", help=f"some of {', '.join(TABLES)}; all by default")
    flags.add_argument("--backbone", default="tf_efficientnet_lite0")
    flags.add_argument("--weights", required=True, help="the backbone's, as `vssl attach` takes them")
    flags.add_argument("--data", required=True, help="clothes, in `train`, `val` and `test`")
    flags.add_argument("--photos", help="photographs of many kinds, only asked about")
    flags.add_argument("--free", help="photographs of other kinds, to attach on")
    flags.add_argument("--work", type=Path, required=True, help="folder of the backbone's answers")
    flags.add_argument("--images", type=int, default=1_536, help="to attach by")
    flags.add_argument("--set", action="append", default=[], help="of the recipe `attach`")
    arguments = flags.parse_args()
    torch.set_num_threads(1)
    images = 300 if arguments.quick else arguments.images
    study = Study(
        bench(
            arguments.backbone,
            arguments.weights,
            arguments.set,
            arguments.work / ("quick" if arguments.quick else "all"),
        ),
        arguments.data,
        arguments.photos,
        arguments.free,
        images,
        *((32, 300) if arguments.quick else (256, 704)),
    )
    settings = {
        "backbone": arguments.backbone,
        "size": study.on.recipe.size,
        "attached on": len(study.clothes.cache),
        "degraded test images": study.degraded,
        "clean test images": study.clean,
        "seed": study.on.seed,
    }
    for name in arguments.tables or TABLES:
        title, table = TABLES[name]
        file = None if arguments.json is None else arguments.json.with_stem(f"{arguments.json.stem}_{name}")
        report(title, table(study), settings, file)


if __name__ == "__main__":
    main()
