"""Terms of the variance head against their definitions in numpy, and each as a recipe's switch."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.core.samples import fashion
from vssl.images.degradations import degrade
from vssl.measures.ranking import auroc
from vssl_training.encoder.embedder import build_encoder
from vssl_training.objective.terms import beta_nll, on_sphere
from vssl_training.objective.variance import contrast_loss, head_loss, nearest_in
from vssl_training.phases.variance import VarianceTraining
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.recipe.sections import Recipe, VarianceSettings

D = 6


def points(count: int, seed: int) -> Tensor:
    return on_sphere(torch.randn(count, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


@pytest.fixture
def clean() -> Tensor:
    return points(5, 0)


@pytest.fixture
def bank(clean: Tensor) -> Tensor:
    """Two of the batch's own images are in it."""
    return torch.cat([points(20, 1), clean[:2]])


@pytest.fixture
def mean(clean: Tensor) -> Tensor:
    return on_sphere(clean + 0.5 * points(5, 2))


def test_nearest_is_never_the_image_itself(clean: Tensor, bank: Tensor) -> None:
    similarity = (clean @ bank.T).numpy()
    similarity[[0, 1], [20, 21]] = -np.inf
    torch.testing.assert_close(nearest_in(bank, clean), bank[torch.from_numpy(similarity.argmax(1))])


def test_by_default_it_is_the_beta_nll_and_the_contrast(clean: Tensor, mean: Tensor) -> None:
    log_variance = 0.1 * points(5, 4)
    struck, empty = torch.tensor([True, False, True, True, False]), torch.empty(0)
    found = head_loss(VarianceSettings(contrast=0), log_variance, mean, clean, struck, empty)
    likelihood = beta_nll(log_variance, (mean - clean) ** 2, 0.5).mean()
    torch.testing.assert_close(found, likelihood)
    both = torch.cat([log_variance, points(5, 5)])
    pairs = [(view, other) for view in log_variance.mean(1)[struck] for other in both[5:].mean(1)]
    hinges = torch.stack([(0.5 - view + other).clamp(min=0) for view, other in pairs])
    found = head_loss(VarianceSettings(contrast=0.3), both, mean, clean, struck, empty)
    torch.testing.assert_close(found, likelihood + 0.3 * hinges.mean())


def test_the_contrast_leaves_clean_pictures_alone() -> None:
    """A view that nothing struck is a clean picture: what it says is not compared with what clean pictures say."""
    views = torch.tensor([0.3, -0.2, 0.1], requires_grad=True)
    clean = torch.tensor([0.0, 0.5, -0.5])
    contrast_loss(views, clean, torch.tensor([1.0, 0.0, 1.0])).backward()
    assert views.grad is not None
    assert views.grad[1] == 0
    assert (views.grad[[0, 2]] < 0).all()
    assert contrast_loss(views, clean, torch.zeros(3)) == 0


def test_the_images_detail_shows_what_an_encoder_has_not_learned_to_see() -> None:
    pixels = fashion(500, 32)
    known, asked = pixels[:400], pixels[400:]
    seen: dict[bool, list[float]] = {}
    for detail in (False, True):
        switches = ["variance.batch=64", "network.width=8", f"variance.detail={str(detail).lower()}"]
        recipe = override(load_recipe("quick"), switches)
        torch.manual_seed(0)
        phase = VarianceTraining(recipe, build_encoder(recipe), torch.from_numpy(known), 0, 100).prepare()
        for step in range(100):
            phase.step(step)
        embedder = phase.embedder.eval()
        with torch.no_grad():
            degraded = [degrade(asked, kind, 3, 0) for kind in ("noise", "blur", "crop")]
            clean, *others = (embedder(torch.from_numpy(each))[2].numpy() for each in (asked, *degraded))
        seen[detail] = [auroc(clean, other) for other in others]
    assert min(seen[True]) > 0.9
    assert all(better > worse for better, worse in zip(seen[True], seen[False], strict=True))


@pytest.mark.parametrize("detail", ["true", "false"])
def test_a_head_by_neighbours_goes_on_from_its_state_whatever_encoder_it_is_built_with(
    small_recipe: Recipe, detail: str
) -> None:
    switches = ["variance.target=neighbour", f"variance.detail={detail}", "variance.bank=24"]
    recipe = override(small_recipe, switches)
    pixels = torch.from_numpy(fashion(40, recipe.size))

    def phase(seed: int) -> VarianceTraining:
        torch.manual_seed(seed)
        return VarianceTraining(recipe, build_encoder(recipe), pixels, 0, 6)

    whole, half = phase(0).prepare(), phase(0).prepare()
    assert whole.bank.shape == (24, whole.embedder.dimension)
    before = [value.clone() for value in whole.head.parameters()]
    for step in range(6):
        assert torch.isfinite(whole.step(step)["loss"])
    assert any((a != b).any() for a, b in zip(before, whole.head.parameters(), strict=True))
    for step in range(3):
        half.step(step)
    again = phase(1)
    again.load_state(half.state())
    for step in range(3, 6):
        again.step(step)
    torch.testing.assert_close(again.bank, whole.bank, atol=0, rtol=0)
    for a, b in zip(whole.head.parameters(), again.head.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_what_is_kept_of_clean_images_is_what_the_encoder_says_of_them(small_recipe: Recipe) -> None:
    """Kept where each image is asked for twice: the steps are those without, but for the rounding of other batches."""
    recipe = override(small_recipe, ["variance.batch=16"])
    pixels, losses = torch.from_numpy(fashion(40, recipe.size)), {}
    for keep in (True, False):
        torch.manual_seed(0)
        phase = VarianceTraining(recipe, build_encoder(recipe), pixels, 0, 5).prepare(keep=keep)
        assert (phase.clean is not None) == keep
        losses[keep] = [phase.step(step)["loss"].item() for step in range(5)]
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)
    assert VarianceTraining(recipe, build_encoder(recipe), pixels, 0, 4).prepare().clean is None


def test_more_clean_images_than_memory_holds_are_not_kept(
    small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vssl_training.phases.variance.free_memory", lambda device: 1_000)
    pixels = torch.from_numpy(fashion(40, small_recipe.size))
    assert VarianceTraining(small_recipe, build_encoder(small_recipe), pixels, 0, 50).prepare().clean is None
