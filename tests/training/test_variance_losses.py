"""Terms of the variance head against their definitions in numpy, and each as a recipe's switch."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.core.samples import fashion
from vssl.degradations import degrade
from vssl.measures import auroc
from vssl_training.embedder import build_encoder
from vssl_training.objective import beta_nll, on_sphere
from vssl_training.recipe import Recipe, VarianceSettings, load_recipe, override
from vssl_training.variance import VarianceTraining
from vssl_training.variance_losses import head_loss, instance_difficulty, mc_infonce, nearest_in, ordering_loss

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


def test_difficulty_is_the_cross_entropy_of_telling_images_apart(clean: Tensor, bank: Tensor, mean: Tensor) -> None:
    for row in range(5):
        others = bank[torch.arange(22) != 20 + row]
        weights = torch.exp(torch.cat([clean[row : row + 1], others]) @ mean[row] / D / 0.3)
        wanted = -torch.log(weights[0] / weights.sum())
        found = instance_difficulty(mean, clean, bank, 0.3)[row]
        torch.testing.assert_close(found, wanted)


def test_pairs_in_order_cost_nothing_and_others_are_pushed_apart() -> None:
    difficulty = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert ordering_loss(difficulty, difficulty) == 0
    wrong = torch.tensor([3.0, 2.0, 1.0, 0.0], requires_grad=True)
    ordering_loss(wrong, difficulty).backward()
    assert wrong.grad is not None
    assert wrong.grad[0] > 0 > wrong.grad[3]


def test_without_variance_mc_infonce_is_infonce(clean: Tensor, bank: Tensor, mean: Tensor) -> None:
    found = mc_infonce(mean, torch.full_like(mean, -60), clean, bank, 0.3, torch.Generator())
    torch.testing.assert_close(found, instance_difficulty(mean, clean, bank, 0.3), atol=1e-6, rtol=0)


def test_mc_infonce_wants_certainty_where_the_mean_is_right_and_doubt_where_it_is_wrong(bank: Tensor) -> None:
    clean = points(200, 3)
    for mean, sign in ((clean, 1), (-clean, -1)):
        level = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        terms = mc_infonce(mean, level.expand(200, D), clean, bank, 0.3, torch.Generator().manual_seed(0), 16)
        terms.mean().backward()
        assert level.grad is not None
        assert level.grad.item() * sign > 0


def test_by_default_it_is_the_beta_nll_and_the_contrast(clean: Tensor, mean: Tensor) -> None:
    log_variance = 0.1 * points(5, 4)
    empty, generator = torch.empty(0), torch.Generator()
    found = head_loss(VarianceSettings(contrast=0), log_variance, mean, clean, empty, generator)
    likelihood = beta_nll(log_variance, (mean - clean) ** 2, 0.5).mean()
    torch.testing.assert_close(found, likelihood)
    both = torch.cat([log_variance, points(5, 5)])
    pairs = [(spoilt, other) for spoilt in log_variance.mean(1) for other in both[5:].mean(1)]
    hinges = torch.stack([(0.5 - spoilt + other).clamp(min=0) for spoilt, other in pairs])
    found = head_loss(VarianceSettings(contrast=0.3), both, mean, clean, empty, generator)
    torch.testing.assert_close(found, likelihood + 0.3 * hinges.mean())


def test_the_images_detail_shows_what_an_encoder_has_not_learned_to_see() -> None:
    pixels = fashion(500, 32)
    known, asked = pixels[:400], pixels[400:]
    seen: dict[bool, list[float]] = {}
    for detail in (False, True):
        switches = ["variance.batch=64", "network.width=8", f"variance.detail={str(detail).lower()}"]
        recipe = override(load_recipe("quick"), switches)
        torch.manual_seed(0)
        phase = VarianceTraining(recipe, build_encoder(recipe), torch.from_numpy(known), 0, 100)
        for step in range(100):
            phase.step(step)
        embedder = phase.embedder.eval()
        with torch.no_grad():
            spoilt = [degrade(asked, kind, 3, 0) for kind in ("noise", "blur", "crop")]
            clean, *others = (embedder(torch.from_numpy(each))[2].numpy() for each in (asked, *spoilt))
        seen[detail] = [auroc(clean, other) for other in others]
    assert min(seen[True]) > 0.9
    assert all(better > worse for better, worse in zip(seen[True], seen[False], strict=True))


@pytest.mark.parametrize(
    "switches",
    [
        ["variance.target=neighbour"],
        ["variance.detail=false", "variance.target=neighbour"],
        ["variance.ordering=1", "variance.contrast=0"],
        ["variance.form=mc_infonce"],
    ],
    ids=lambda switches: switches[0],
)
def test_every_switch_trains_and_goes_on_from_its_state(small_recipe: Recipe, switches: list[str]) -> None:
    recipe = override(small_recipe, [*switches, "variance.bank=24"])
    pixels = torch.from_numpy(fashion(40, recipe.image.size))
    torch.manual_seed(0)
    encoder = build_encoder(recipe)

    def phase() -> VarianceTraining:
        return VarianceTraining(recipe, encoder, pixels, 0, 6)

    whole, half = phase(), phase()
    assert whole.bank.shape == (24, recipe.network.embedding)
    before = [value.clone() for value in whole.head.parameters()]
    for step in range(6):
        assert torch.isfinite(whole.step(step)["loss"])
    assert any((a != b).any() for a, b in zip(before, whole.head.parameters(), strict=True))
    for step in range(3):
        half.step(step)
    again = phase()
    again.load_state(half.state())
    for step in range(3, 6):
        again.step(step)
    for a, b in zip(whole.head.parameters(), again.head.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)
