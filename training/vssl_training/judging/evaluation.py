"""`vssl evaluate`: the same figures for a run and for a bundle. Torch is needed for a run only."""

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vssl.arrays import Pixels
from vssl.bundle.manifest import MANIFEST
from vssl.bundle.reading import open_bundle
from vssl.engine import Embeddings, Engine, batch_images
from vssl.errors import UsageError
from vssl.images.decoding import Preprocessing
from vssl.measures.embeddings import effective_rank, knn_accuracy, rankme, sphere_std
from vssl.sources.in_memory import ImageSet
from vssl.sources.opening import splits_of
from vssl_training.data.classes import load_classes
from vssl_training.data.torchvision import open_data
from vssl_training.judging.linear_probes import linear_accuracy
from vssl_training.judging.uncertainty import foreign_figures, trust_figures

ASKED = ("test", "val", "valid", "validation")


class Model(Protocol):
    """A run or a bundle, opened."""

    preprocessing: Preprocessing
    classes: str | None
    """The list of classes that it was trained on, where it is known."""
    clamp: tuple[float, float] | None
    """Bounds of log σ², where they are known."""

    def embed(self, pixels: Pixels) -> Embeddings:
        """Embed uint8 [N, S, S, 3]."""
        ...

    def features(self, pixels: Pixels) -> npt.NDArray[np.float32] | None:
        """The backbone's features [N, F], or None where the model does not give them."""
        ...


class BundleModel:
    """A bundle in ONNX Runtime."""

    classes: str | None = None
    clamp: tuple[float, float] | None = None

    def __init__(self, path: Path) -> None:
        bundle = open_bundle(path)
        self.preprocessing = bundle.manifest.preprocessing
        self._engine = Engine(bundle)

    def embed(self, pixels: Pixels) -> Embeddings:
        """See `Model`."""
        return self._engine(pixels)

    def features(self, pixels: Pixels) -> None:
        """A bundle gives embeddings alone."""


class RunModel:
    """A finished run in torch."""

    def __init__(self, path: Path) -> None:
        from vssl_training.run.folder import Run, preprocessing_of

        run = Run(path)
        recipe = run.record().recipe
        self.preprocessing, self.classes = preprocessing_of(recipe), recipe.image.classes
        self._embedder = run.load_embedder()
        self.clamp: tuple[float, float] | None = self._embedder.log_variance.clamp

    def embed(self, pixels: Pixels) -> Embeddings:
        """See `Model`."""
        from vssl_training.encoder.embedder import embed

        return embed(self._embedder, pixels)

    def features(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """See `Model`."""
        import torch

        from vssl_training.views.augment import to_float

        with torch.no_grad():
            batches = torch.split(torch.from_numpy(pixels), batch_images(pixels.shape[1]))
            return torch.cat([self._embedder.backbone(to_float(batch)).final for batch in batches]).numpy()


def open_model(path: Path) -> Model:
    """A bundle (a folder with a manifest, or a .zip) or a run.

    Raises:
        UsageError: it is neither, or it is a run and torch is not installed.
    """
    if path.suffix == ".zip" or (path / MANIFEST).exists():
        return BundleModel(path)
    if (path / "recipe.yaml").exists():
        try:
            return RunModel(path)
        except ModuleNotFoundError as error:
            # The command's own extra is that of a bundle.
            raise UsageError(f"to evaluate a run needs {error.name}: pip install 'vssl[train]'") from error
    raise UsageError(f"{path}: neither a run (no recipe.yaml) nor a bundle (no {MANIFEST})")


def evaluate(path: Path, data: str, bank: str | None, ood: str | None = None) -> dict[str, float | int]:
    """Figures of a run or bundle on the images of `data`; labels are read from class folders and only judge.

    `images`, `unreadable`; `knn` of the embedding, `knn_backbone` where features are at hand, `knn_pixels` as the
    baseline, with the bank's images voting, or all others when there is no bank; `linear` and `linear_backbone`, a
    linear probe trained on the bank, or on four fifths of the images and asked the rest; `effective_rank`, `rankme` and
    `sphere_std` of the embedding; those of `trust_figures`; those of `foreign_figures` with images in `ood`.

    Where `data` holds splits, its `test` (or else `val`) is asked, and `train` is the bank unless another is named.

    Raises:
        UsageError: paths that do not exist, or a bank whose classes are not those of the data.
    """
    splits = splits_of(data)
    if splits:
        data = next((splits[name] for name in ASKED if name in splits), splits["train"])
        bank = bank or (splits["train"] if data != splits["train"] else None)
    model = open_model(path)
    queries = load_classes(open_data(data), model.preprocessing, model.classes)
    figures: dict[str, float | int] = {"images": len(queries), "unreadable": len(queries.failures)}
    clean = model.embed(queries.pixels)
    voters = None if bank is None else load_classes(open_data(bank), model.preprocessing, model.classes)
    if voters is not None:
        figures["bank_images"] = len(voters)
    figures |= label_figures(model, queries, voters, clean)
    figures["effective_rank"] = effective_rank(clean.embedding)
    figures["rankme"] = rankme(clean.embedding)
    figures["sphere_std"] = sphere_std(clean.embedding)
    figures |= trust_figures(model.embed, queries, clean, model.clamp)
    if ood is not None:
        figures |= foreign_figures(clean, model.embed(load_classes(open_data(ood), model.preprocessing, None).pixels))
    return figures


def label_figures(model: Model, queries: ImageSet, bank: ImageSet | None, clean: Embeddings) -> dict[str, float]:
    """Accuracy of kNN and of linear probes on embedding, backbone and raw pixels, as far as there are labels."""
    labels, voters = queries.labels, queries.labels if bank is None else bank.labels
    if labels is None or voters is None:
        return {}
    if bank is not None and bank.classes != queries.classes:
        raise UsageError(f"the bank's classes {bank.classes} are not those of the data {queries.classes}")
    own = {"": clean.embedding, "_pixels": flat(queries.pixels)}
    theirs = own
    if bank is not None:
        theirs = {"": model.embed(bank.pixels).embedding, "_pixels": flat(bank.pixels)}
    features = model.features(queries.pixels)
    bank_features = features if bank is None else model.features(bank.pixels)
    if features is not None and bank_features is not None:
        own["_backbone"], theirs["_backbone"] = features, bank_features
    figures = {f"knn{of}": knn_accuracy(own[of], labels, theirs[of], voters, exclude_self=bank is None) for of in own}
    asked, taught = np.arange(len(labels)), np.arange(len(voters))
    if bank is None:
        asked, taught = np.split(np.random.default_rng(0).permutation(len(labels)), [len(labels) // 5])
    if len(asked):
        for of in own.keys() - {"_pixels"}:
            figures[f"linear{of}"] = linear_accuracy(theirs[of][taught], voters[taught], own[of][asked], labels[asked])
    return dict(sorted(figures.items()))


def flat(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Pixels as vectors around 0, the baseline."""
    return pixels.reshape(len(pixels), -1).astype(np.float32) - 127.5
