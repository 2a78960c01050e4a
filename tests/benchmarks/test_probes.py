"""The probes that judge as the field does, and the switch of the methods' BatchNorm."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.probes import OnlineProbe, features_of_views
from benchmarks.report import DEMO_DATA
from benchmarks.ssl_methods import METHODS, PEERS, Peer, Setup, epochs_of_equal_cost, normalise_each_view
from tests.core.samples import fashion
from vssl_training.encoder.embedder import build_encoder
from vssl_training.judging.linear_probes import linear_accuracy
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.run.numerics import Numerics

RECIPE = override(load_recipe("quick"), ["network.width=8", "optimiser.batch=16", "network.dimension=16"])
PIXELS = torch.from_numpy(fashion(32))
LABELS = np.arange(32) % 2


def phase(name: str) -> EncoderTraining:
    if name in PEERS:
        return Peer(name, RECIPE, PIXELS, 0, 4, Numerics())
    return EncoderTraining(RECIPE, PIXELS, 0, 4)


def test_the_online_probe_changes_nothing_of_the_method() -> None:
    alone, watched = phase("VSSL balanced"), phase("VSSL balanced")
    probe = OnlineProbe(watched.student, LABELS, 0)
    for step in range(4):
        alone.step(step)
        watched.step(step)
        probe.step(watched.order(step), 1.0)
    for ours, theirs in zip(alone.student.parameters(), watched.student.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_online_probe_learns_what_a_linear_layer_can() -> None:
    encoder = build_encoder(RECIPE)
    images = PIXELS.permute(0, 3, 1, 2) / 255
    dark = torch.arange(32) % 2 == 1
    images[dark] *= 0.2
    probe = OnlineProbe(encoder, LABELS, 0)
    losses = []
    for _ in range(120):  # so many that the running statistics have forgotten their start
        encoder.train().backbone(images.repeat(2, 1, 1, 1))
        losses.append(probe.step(torch.arange(32), 1.0))
    encoder.eval()
    with torch.no_grad():
        features = encoder.backbone(images).final.numpy()
    assert losses[-1] < losses[0] / 4
    assert probe.accuracy(features, LABELS) > 0.8
    assert not probe.seen  # an encoder that is judged, not trained, teaches nothing


def test_views_are_drawn_anew_and_the_probe_takes_them_in_turn() -> None:
    encoder = build_encoder(RECIPE)
    first = features_of_views(encoder, PIXELS, 0, views=2)
    assert first.shape == (2, 32, encoder.backbone.features)
    assert not np.allclose(first[0], first[1])
    assert np.array_equal(first, features_of_views(encoder, PIXELS, 0, views=2))
    assert not np.allclose(first, features_of_views(encoder, PIXELS, 1, views=2))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    clean = np.eye(3)[labels] + rng.normal(size=(300, 3)) * 0.1
    again = linear_accuracy(np.stack([clean, clean]), labels, clean, labels)
    assert again == linear_accuracy(clean, labels, clean, labels)  # two equal views teach what one does
    # What every second view denies is not learned as if it were sure.
    assert linear_accuracy(np.stack([clean, np.roll(clean, 1, axis=1)]), labels, clean, labels) < again


@pytest.mark.parametrize("name", ["VSSL balanced", "SimCLR", "BYOL"])
def test_batchnorm_sees_one_view_at_a_time(name: str) -> None:
    method = phase(name)
    normalise_each_view(method)
    seen: list[Tensor] = []
    norms = [part for part in method.student.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    norms[0].register_forward_hook(lambda module, inputs, output: seen.append(output.detach().clone()))
    assert all(torch.isfinite(value).all() for value in method.step(0).values())
    assert [len(each) for each in seen] == [16, 16]
    for each in seen:  # each view has mean 0 in each channel, by itself
        assert torch.allclose(each.mean((0, 2, 3)), torch.zeros(each.shape[1]), atol=1e-4)


def test_cheap_methods_get_more_epochs_and_the_slowest_none() -> None:
    rows = [
        {"method": name, "budget": "epochs", "core_minutes": minutes}
        for name, minutes in zip(METHODS, [8.0, 6, 6, 6, 4, 4, 2, 2], strict=True)
    ]
    epochs = epochs_of_equal_cost(rows, 16)
    assert (epochs["VSSL balanced"], epochs["BYOL"], epochs["SimCLR"]) == (16, 32, 64)


def test_images_held_out_are_training_images_that_nothing_trains_on() -> None:
    train, queries = Setup(DEMO_DATA, "quick", bf16=False, per_view=False, held_out=500).images()
    assert (len(train), len(queries)) == (3_500, 500)
    assert {path.split("/")[0] for path in queries.paths} == set(train.classes)
    assert not set(train.paths) & set(queries.paths)
