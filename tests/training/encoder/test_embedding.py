"""The fitted embedding: scikit-learn's PCA of the stages' cells, kept by later heads, refused where it can't be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.decomposition import PCA

from tests.core.samples import fashion
from vssl.errors import UsageError
from vssl_training.encoder.embedder import build_encoder, check_network
from vssl_training.encoder.embedding import FLOOR, EmbeddingLayer
from vssl_training.encoder.features import Features
from vssl_training.encoder.weights import initial_encoder, load_embedder
from vssl_training.judging.online import OnlineJudge
from vssl_training.loop.job import StartingWeights, TrainingOptions
from vssl_training.loop.training import train
from vssl_training.phases.variance import VarianceTraining
from vssl_training.recipe.reading import override
from vssl_training.recipe.sections import EmbeddingSettings, Recipe, WhitenSettings
from vssl_training.run.folder import Run
from vssl_training.run.record import Budget
from vssl_training.views.pixels import to_float


def random_maps(count: int) -> Features:
    draws = torch.Generator().manual_seed(0)
    shapes = ((3, 8, 1.0), (5, 6, 1.0), (4, 4, 0.05))
    maps = tuple(scale * torch.randn(count, c, s, s, generator=draws).cumsum(3) for c, s, scale in shapes)
    return Features(torch.empty(count, 3, 8, 8), maps[-1].flatten(1), maps)


def layer_of_maps(power: float = 1, centre: bool = True) -> EmbeddingLayer:
    whiten = WhitenSettings(dimension=30, power=power)
    return EmbeddingLayer(EmbeddingSettings(of="maps", cells=(2, 2), centre=centre, whiten=whiten), 36)


@pytest.mark.parametrize("power", [0, 0.5, 1])
def test_it_is_the_pca_of_the_cells(power: float) -> None:
    features = random_maps(300)
    whitening = layer_of_maps(power)
    cells = whitening.pooled(features)
    one, last = features.maps[1:]
    expected = np.concatenate(
        [
            one.numpy().reshape(300, 5, 2, 3, 2, 3).mean((3, 5)).reshape(300, -1),
            last.numpy().reshape(300, 4, 2, 2, 2, 2).mean((3, 5)).reshape(300, -1),
        ],
        1,
    )
    np.testing.assert_allclose(cells.numpy(), expected, atol=1e-5)
    whitening.fit(torch.split(cells, 64))
    ours = whitening(features).detach().numpy()[:, ::-1]
    pca = PCA(30, svd_solver="full").fit(expected.astype(np.float64))
    variances = pca.explained_variance_ * 299 / 300
    assert variances[0] > variances[-1] / FLOOR  # the floor plays a part
    scale = np.sqrt(np.maximum(variances, FLOOR * variances[0])) ** power
    rows = np.arange(30)
    signs = np.sign(pca.components_[rows, np.abs(pca.components_).argmax(1)])  # a direction has none of its own
    np.testing.assert_allclose(ours, pca.transform(expected.astype(np.float64)) * signs / scale, atol=1e-3)


def test_fewer_images_than_directions_give_finite_numbers() -> None:
    whitening = layer_of_maps()
    features = random_maps(8)
    whitening.fit([whitening.pooled(features)])
    assert whitening(features).isfinite().all()


def test_it_is_centred_or_not() -> None:
    features = random_maps(50)
    for settings, expected in (
        (EmbeddingSettings(of="features"), features.final),
        (EmbeddingSettings(of="features", centre=True), features.final - features.final.mean(0)),
    ):
        layer = EmbeddingLayer(settings, 64)
        layer.fit(torch.split(layer.pooled(features), 20))
        torch.testing.assert_close(layer(features), expected, atol=1e-5, rtol=0)
    centred, plain = layer_of_maps(), layer_of_maps(centre=False)
    for layer in (centred, plain):
        layer.fit([layer.pooled(features)])
    shift = plain(features) - centred(features)
    torch.testing.assert_close(shift, plain(features).mean(0).expand(50, 30), atol=1e-3, rtol=1e-3)


def test_the_embedding_of_a_run_is_whitened(fashion_folder: Path, small_recipe: Recipe) -> None:
    pixels = torch.from_numpy(fashion(48))
    recipe = override(small_recipe, ["variance.batch=12"])
    phase = VarianceTraining(recipe, build_encoder(recipe), pixels, 0, 10).prepare()
    with torch.no_grad():
        means = phase.embedder.mean_of(phase.embedder.backbone(to_float(pixels)))
    assert means.shape == (48, 16)
    covariance = torch.cov(means.T, correction=0)
    torch.testing.assert_close(covariance, torch.diag(covariance.diagonal()), atol=1e-3, rtol=0)
    assert covariance.diagonal().max() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(means.mean(0), torch.zeros(16), atol=1e-4, rtol=0)
    kept = VarianceTraining(recipe, build_encoder(recipe), pixels, 1, 10).prepare(phase.embedder.mean)
    torch.testing.assert_close(kept.embedder.mean.state_dict(), phase.embedder.mean.state_dict())


def test_a_later_head_keeps_the_whitening_of_its_run(
    finished_run: Path, fashion_folder: Path, small_recipe: Recipe, tmp_path: Path
) -> None:
    options = TrainingOptions(start=StartingWeights(finished_run, variance_only=True))
    train(
        small_recipe,
        str(fashion_folder),
        tmp_path / "run",
        Budget(steps=3),
        seed=5,
        options=options,
    )
    before, after = (load_file(Run(path).weights_path) for path in (finished_run, tmp_path / "run"))
    torch.testing.assert_close(before["mean.linear.weight"], after["mean.linear.weight"], rtol=0, atol=0)
    other = override(small_recipe, ["network.embedding.whiten.dimension=8"])
    train(other, str(fashion_folder), tmp_path / "other", Budget(steps=3), seed=5, options=options)
    assert len(load_file(Run(tmp_path / "other").weights_path)["mean.linear.weight"]) == 8


def test_the_judge_sees_it_whitened_too(small_recipe: Recipe) -> None:
    pixels = torch.from_numpy(fashion(60))
    labels = np.arange(60) % 2
    judge = OnlineJudge(pixels, labels, 10, 0)
    encoder = build_encoder(small_recipe)
    plain, whitened = (judge.encoder(encoder, each) for each in (None, small_recipe.network))
    assert plain.keys() == whitened.keys()
    assert {key for key in plain if plain[key] != whitened[key]} <= {"knn"}
    assert encoder.training


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("network.embedding.cells=[1, 1, 1, 1]", "4 stages, the backbone has 3"),
        ("network.embedding.whiten.dimension=4000", "at least whiten.dimension"),
        ("network.embedding.whiten=auto", "auto is for `vssl attach`"),
        ("network.embedding.cells=[16, 16]", "8,192 at most|at least whiten.dimension"),
        ("variance.joint=true", "needs the second phase"),
        ("variance.share=0", "needs the second phase"),
    ],
)
def test_what_can_not_be_whitened_is_refused(small_recipe: Recipe, setting: str, said: str) -> None:
    wide = override(small_recipe, ["network.width=32"])
    with pytest.raises(UsageError, match=said):
        check_network(override(wide, [setting]))


def test_an_embedding_of_the_mean_head_is_projected_and_starts_other_runs(
    fashion_folder: Path, small_recipe: Recipe, tmp_path: Path
) -> None:
    whitened = override(small_recipe, ["network.embedding={of: mean, centre: true, whiten: {dimension: 4}}"])
    train(whitened, str(fashion_folder), tmp_path / "run", Budget(steps=4))
    embedder = load_embedder(Run(tmp_path / "run"))
    assert embedder.dimension == 4
    encoder, fresh = initial_encoder(small_recipe, tmp_path / "run", 0)
    assert fresh == ["log_variance"]
    assert isinstance(embedder.mean, EmbeddingLayer)
    assert isinstance(embedder.mean.head, torch.nn.Module)
    torch.testing.assert_close(encoder.mean.state_dict(), embedder.mean.head.state_dict())


def test_a_run_of_the_version_with_the_old_key_is_refused(finished_run: Path, tmp_path: Path) -> None:
    text = (finished_run / "recipe.yaml").read_text()
    place = text.index("    embedding:")
    (tmp_path / "recipe.yaml").write_text(f"{text[:place]}    whitening: null\n{text[place:]}")
    with pytest.raises(UsageError, match=r"a run of vssl 0\.2\.0, whose recipes had network\.whitening"):
        Run(tmp_path).record()
