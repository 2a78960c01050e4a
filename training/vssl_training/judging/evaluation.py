"""`vssl evaluate`: the same figures for a run and for a bundle."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from vssl.arrays import Pixels
from vssl.engine import Embeddings
from vssl.errors import UsageError
from vssl.measures.embeddings import effective_rank, knn_accuracy, rankme, sphere_std
from vssl.sources.in_memory import ImageSet
from vssl.sources.opening import splits_of
from vssl_training.data.classes import load_classes
from vssl_training.data.torchvision import open_data
from vssl_training.judging.linear_probes import linear_accuracy
from vssl_training.judging.models import Model, open_model
from vssl_training.judging.uncertainty import out_of_distribution_figures, uncertainty_figures

QUERY_SPLITS = ("test", "val", "valid", "validation")


def evaluate(path: Path, data: str, bank: str | None, ood: str | None = None) -> dict[str, float | int]:
    """Figures of a run or bundle on the images of `data`; labels are read from class folders and only judge.

    `images`, `unreadable`; `knn` of the embedding, `knn_backbone` where features are at hand, and `knn_pixels` as the
    baseline: the neighbours are the bank's images, or all others when there is no bank; `linear` and `linear_backbone`,
    a linear probe trained on the bank and judged on the images, or trained on four fifths of them and judged on the
    rest; `effective_rank`, `rankme` and `sphere_std` of the embedding; those of `uncertainty_figures`; with images in
    `ood`, those of `out_of_distribution_figures`.

    Where `data` holds splits, its `test` (or else `val`) are the queries, and `train` is the bank unless another is
    named.

    Raises:
        UsageError: paths that do not exist, or a bank whose classes are not those of the data.
    """
    splits = splits_of(data)
    if splits:
        data = next((splits[name] for name in QUERY_SPLITS if name in splits), splits["train"])
        bank = bank or (splits["train"] if data != splits["train"] else None)
    model = open_model(path)
    queries = load_classes(open_data(data), model.preprocessing, model.classes)
    figures: dict[str, float | int] = {"images": len(queries), "unreadable": len(queries.failures)}
    clean = model.embed(queries.pixels)
    bank_images = None if bank is None else load_classes(open_data(bank), model.preprocessing, model.classes)
    if bank_images is not None:
        figures["bank_images"] = len(bank_images)
    figures |= label_figures(model, queries, bank_images, clean)
    figures["effective_rank"] = effective_rank(clean.embedding)
    figures["rankme"] = rankme(clean.embedding)
    figures["sphere_std"] = sphere_std(clean.embedding)
    figures |= uncertainty_figures(model.embed, queries, clean, model.clamp)
    if ood is not None:
        figures |= out_of_distribution_figures(
            clean, model.embed(load_classes(open_data(ood), model.preprocessing, None).pixels)
        )
    return figures


def label_figures(model: Model, queries: ImageSet, bank: ImageSet | None, clean: Embeddings) -> dict[str, float]:
    """Accuracy of kNN and of linear probes on embedding, backbone and raw pixels, as far as there are labels."""
    labels, bank_labels = queries.labels, queries.labels if bank is None else bank.labels
    if labels is None or bank_labels is None:
        return {}
    if bank is not None and bank.classes != queries.classes:
        raise UsageError(f"the bank's classes {bank.classes} are not those of the data {queries.classes}")
    own = {"": clean.embedding, "_pixels": flat(queries.pixels)}
    banks = own
    if bank is not None:
        banks = {"": model.embed(bank.pixels).embedding, "_pixels": flat(bank.pixels)}
    features = model.features(queries.pixels)
    bank_features = features if bank is None else model.features(bank.pixels)
    if features is not None and bank_features is not None:
        own["_backbone"], banks["_backbone"] = features, bank_features
    figures = {
        f"knn{tier}": knn_accuracy(vectors, labels, banks[tier], bank_labels, exclude_self=bank is None)
        for tier, vectors in own.items()
    }
    tested, taught = np.arange(len(labels)), np.arange(len(bank_labels))
    if bank is None:
        tested, taught = np.split(np.random.default_rng(0).permutation(len(labels)), [len(labels) // 5])
    if len(tested):
        for tier in own.keys() - {"_pixels"}:
            figures[f"linear{tier}"] = linear_accuracy(
                banks[tier][taught], bank_labels[taught], own[tier][tested], labels[tested]
            )
    return dict(sorted(figures.items()))


def flat(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Pixels as vectors around 0, the baseline."""
    return pixels.reshape(len(pixels), -1).astype(np.float32) - 127.5
