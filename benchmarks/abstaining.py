"""What a labelled gallery accepts of clean photographs and of degraded ones: by the probability alone, with the limit
of uncertainty, with the bundle's flag.

`python -m benchmarks.abstaining --clothing CLOTHING`: clothes of `test`, whose senders are not in the gallery, which is
`train`; and the degraded copies (`vssl.images.degradations`, strengths drawn from 0 … 1) of some of them whose squared
distance to the clean image's embedding is over .5. Accepted at a risk of .1.
"""

from collections.abc import Mapping

import numpy as np

from benchmarks.default_model import COSTLY, by_name, copies, images_of
from benchmarks.report import parser, report
from vssl.arrays import Float64s, Integers, Mask
from vssl.bundle.reading import open_bundle
from vssl.engine import Embeddings, Engine, concatenate
from vssl.uncertainty.calibrated import apply_calibration
from vssl.uncertainty.fitting import fit_gallery
from vssl.uncertainty.matches import apply_gallery_calibration, match

RISK = "0.1"


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--clothing", required=True, help="an archive with `train` and `test` class folders")
    flags.add_argument("--bundle", default="builtin:default")
    flags.add_argument("--degraded", type=int, default=150, help="images that are degraded, each in all ways")
    arguments = flags.parse_args()
    bundle, every = open_bundle(arguments.bundle), 10 if arguments.quick else 1
    engine = Engine(bundle)
    test, train = (images_of(bundle, f"{arguments.clothing}::{part}", every) for part in ("test", "train"))
    labels, votes = by_name(test, train)
    clean, bank = engine(test.pixels), engine(train.pixels)
    calibration = fit_gallery(bank.embedding, bank.uncertainty, votes, len(train.classes))
    unlimited = calibration.model_copy(update={"uncertainty": None})

    def accepted(asked: Embeddings, truth: Integers) -> Mapping[str, tuple[Mask, Mask]]:
        """Whether each is accepted, and whether its label is wrong, by the rules' names."""
        matches = match(asked.embedding, asked.uncertainty, bank.embedding, votes, len(train.classes))
        ties: Float64s = np.linspace(0, 1, len(truth), endpoint=False)
        known = bundle.manifest.calibration
        ood = None if known is None else apply_calibration(known, asked).flags["ood"]
        rules = {
            "p_correct": (unlimited, None),
            "p_correct, the flag ood": (unlimited, ood),
            "p_correct, the limit": (calibration, None),
            "p_correct, the limit, the flag ood": (calibration, ood),
        }
        return {
            name: (
                np.array(apply_gallery_calibration(rule, matches, RISK, RISK, ties, flags).actions) == "accept",
                matches.label != truth,
            )
            for name, (rule, flags) in rules.items()
        }

    chosen = np.random.default_rng(0).permutation(len(labels))[: 10 if arguments.quick else arguments.degraded]
    costly, whose = [], []
    for _, pictures in copies(test.pixels[chosen]):
        answers = engine(pictures)
        cost = np.square(answers.embedding - clean.embedding[chosen]).sum(axis=1)
        costly.append(answers[cost > COSTLY])
        whose.append(labels[chosen][cost > COSTLY])
    rows = [
        {
            "asked": asked,
            "images": len(mask),
            "by": rule,
            "accepted": float(mask.mean()),
            "wrong": float(wrong[mask].mean()) if mask.any() else None,
        }
        for asked, found in (
            ("clean", accepted(clean, labels)),
            (f"degraded, d² over {COSTLY:g}", accepted(concatenate(costly), np.concatenate(whose))),
        )
        for rule, (mask, wrong) in found.items()
    ]
    about = {"model": bundle.manifest.id[:12], "gallery": len(votes), "risk": RISK}
    report("What a gallery accepts", rows, about, arguments.json)


if __name__ == "__main__":
    main()
