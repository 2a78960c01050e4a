"""A head foretells squared errors; an embedding is chosen by what it is right about; kinds are told apart."""

import numpy as np
import torch

from vssl.measures.uncertainty import rank_correlation
from vssl_training.attaching.cache import Cache
from vssl_training.attaching.choosing import choose
from vssl_training.attaching.correcting import correct
from vssl_training.attaching.head import squared_errors, train_head
from vssl_training.attaching.judging import deciles, judge
from vssl_training.encoder.heads import StatisticsHead
from vssl_training.recipe.sections import EmbeddingSettings, HeadSettings, VarianceSettings, WhitenSettings

RNG = np.random.default_rng


def test_the_variance_is_the_expected_squared_error() -> None:
    """Copies move as far as a number says that the head sees among others: known in closed form."""
    draws = torch.Generator().manual_seed(0)
    harm = torch.rand(800, 5, generator=draws)
    harm[:, 0] = 0
    inputs = torch.randn(800, 5, 6, generator=draws)
    inputs[..., 0] = harm
    clean = torch.nn.functional.normalize(torch.randn(800, 1, 16, generator=draws), dim=-1) * 4
    means = clean + harm[..., None] * torch.randn(800, 5, 16, generator=draws)
    head = StatisticsHead(6, HeadSettings(hidden=32), 0.0, 16, (-6.0, 3.0))
    settings = VarianceSettings(sees="lower", hidden=32, beta_nll=0.5, learning_rate=0.01, weight_decay=0.01)
    train_head(head, inputs[:600].half(), means[:600].half(), settings, 40, seed=0)
    with torch.no_grad():
        log_variance = head(inputs[600:].flatten(0, 1)).numpy()
    errors = squared_errors(means[600:]).mean(-1).flatten().numpy()
    foretold = np.exp(log_variance).mean(1)
    assert rank_correlation(log_variance.mean(1), errors) > 0.95
    for predicted, real in deciles(foretold, errors):
        assert abs(predicted - real) < 0.25 * real + 0.01


def cache_of(pooled: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> Cache:
    images, rows, _ = pooled.shape
    kinds = np.tile(np.arange(-1, rows - 1), (images, 1))
    strengths = np.ones((images, rows), np.float32)
    return Cache(
        np.zeros((images, rows, 2), np.float16), pooled.astype(np.float16), kinds, strengths, np.arange(images), []
    )


def test_auto_takes_whitening_where_it_is_needed_and_nothing_where_it_harms() -> None:
    """Classes differ in directions of little variance, or of much, beside noise in all the others."""
    held_back, labels = np.arange(400) < 150, np.arange(400) % 4
    settings = EmbeddingSettings(of="features", centre=True, whiten="auto")
    for scale, power in ((0.3, 1.0), (30.0, 0.0)):
        pooled = RNG(0).normal(0, 1, (400, 1, 12))
        pooled[..., :4] *= 20
        pooled[np.arange(400), 0, 8 + labels] += 20 * scale
        pooled[..., 8:] /= 5 if scale < 1 else 1
        choice = choose(settings, cache_of(pooled), held_back, labels)
        assert isinstance(choice.settings.whiten, WhitenSettings)
        assert (choice.measure, choice.settings.whiten.power) == ("kNN", power)


def test_without_labels_a_copy_must_find_its_own_image() -> None:
    clean = RNG(0).normal(0, 1, (200, 1, 12))
    copies = clean + RNG(1).normal(0, 0.1, (200, 3, 12))
    pooled = np.concatenate([clean, copies], 1)
    choice = choose(EmbeddingSettings(of="features", whiten="auto"), cache_of(pooled), np.arange(200) < 50, None)
    assert choice.measure == "R@1 of degraded copies"
    assert min(choice.figures.values()) > 0.95


def test_kinds_have_their_error_and_their_auroc() -> None:
    uncertainty = np.array([0.0, 1, 2, 3, 4, 0.5])
    found = judge(uncertainty, uncertainty, uncertainty**2, np.array([-1, -1, 0, 0, 1, 1]), ("blur", "noise", "crop"))
    assert found.kinds.keys() == {"blur", "noise"}
    assert (found.kinds["blur"].error, found.kinds["blur"].auroc) == (6.5, 1.0)
    assert found.kinds["noise"].auroc == 0.75
    assert found.correlation == 1


def test_predictions_are_corrected_by_images_that_were_held_back() -> None:
    """A head that foretells the square root of the error, and everywhere half of it, foretells the error then."""
    rng = RNG(0)
    error = rng.uniform(0.01, 2, 2000)
    wrong = np.log(0.5 * np.sqrt(error))[:, None] + rng.normal(0, 0.3, (2000, 1)) * [1, -1, 1, -1]
    head = StatisticsHead(2, HeadSettings(hidden=8), 0.0, 4, (-6.0, 3.0))
    before = head.corrected(torch.from_numpy(wrong[:5]).float())
    torch.testing.assert_close(before, torch.from_numpy(wrong[:5]).float())
    correct(head, wrong[:1000], error[:1000])
    right = head.corrected(torch.from_numpy(wrong[1000:]).float()).numpy()
    for predicted, real in deciles(np.exp(right).mean(1), error[1000:]):
        assert abs(predicted - real) < 0.15 * real + 0.03
    order = np.argsort(np.exp(wrong[1000:]).mean(1))
    assert (np.diff(np.exp(right).mean(1)[order]) > -1e-4).all()


def test_few_images_correct_by_one_number() -> None:
    head = StatisticsHead(2, HeadSettings(hidden=8), 0.0, 4, (-6.0, 3.0))
    correct(head, np.zeros((40, 4)), np.full(40, 3.0))
    torch.testing.assert_close(head.corrected(torch.ones(1, 4)).exp(), torch.full((1, 4), 3 * float(np.e)))
