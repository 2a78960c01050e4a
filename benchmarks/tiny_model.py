"""The figures of docs/tiny-model.md: `builtin:tiny` on the test images of both sets that it comes from.

Test images are the queries; training images are the bank of kNN and teach the linear probe. The images out of
distribution are scikit-learn's handwritten digits, 8 × 8 pixels, enlarged. Then the part of every second test image
that is flagged, clean as it is, and images/s of the model, without decoding.
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.report import Row, parser, report
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source
from vssl.uncertainty.calibrated import FLAGS, apply_calibration
from vssl_export.checking.speed import speeds
from vssl_training.judging.evaluation import evaluate


def main() -> None:
    """Print the tables."""
    flags = parser(__doc__)
    flags.add_argument("--cifar", required=True, help="CIFAR-10: an archive with `train` and `test` class folders")
    flags.add_argument("--fashion", required=True, help="Fashion-MNIST, of `demo/make_archive.py --out`")
    flags.add_argument("--bundle", type=Path, default=None, help="another bundle than builtin:tiny")
    arguments = flags.parse_args()
    bundle = open_bundle(arguments.bundle or "builtin:tiny")
    sets = {"CIFAR-10": arguments.cifar, "Fashion-MNIST": arguments.fashion}
    with tempfile.TemporaryDirectory() as digits:
        for number, digit in enumerate(load_digits().images):
            Image.fromarray(np.uint8(digit / digit.max() * 255)).save(Path(digits, f"{number:04d}.png"))
        found = {
            name: evaluate(bundle.location, f"{data}::test", None if arguments.quick else f"{data}::train", digits)
            for name, data in sets.items()
        }
    rows: list[Row] = [
        {"figure": figure} | {name: figures.get(figure) for name, figures in found.items()}
        for figure in found["CIFAR-10"]
        if not figure.endswith(("_low", "_high"))
    ]
    engine = Engine(bundle)
    pixels = {
        name: load_images(open_source(f"{data}::test"), bundle.manifest.preprocessing).pixels[::2]
        for name, data in sets.items()
    }
    if bundle.manifest.calibration is not None:
        flagged = {
            name: apply_calibration(bundle.manifest.calibration, engine(images)).flags
            for name, images in pixels.items()
        }
        rows += [
            {"figure": f"part flagged {flag}"} | {name: float(each[flag].mean()) for name, each in flagged.items()}
            for flag in FLAGS
        ]
    measured = speeds({"fp32": engine}, pixels["CIFAR-10"])["fp32"]
    rows += [{"figure": f"images/s at batch {batch}", "CIFAR-10": speed} for batch, speed in measured.items()]
    model = bundle.manifest.files[bundle.manifest.models["fp32"].path].sha256
    report("builtin:tiny", rows, {"model": model[:12]}, arguments.json)


if __name__ == "__main__":
    main()
