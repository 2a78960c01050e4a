"""The networks: shapes, what the heads start from, and a teacher that follows in every number."""

import numpy as np
import pytest
import torch
from torch import nn

from vssl_training.encoder.embedder import build_embedder, build_encoder
from vssl_training.encoder.features import DETAIL
from vssl_training.encoder.small_net import SmallNet
from vssl_training.encoder.student import update_teacher
from vssl_training.recipe.reading import load_recipe


@pytest.mark.parametrize("size", [16, 28, 32, 33, 64])
def test_features_have_the_declared_sizes(size: int) -> None:
    net = SmallNet(8)
    features = net(torch.rand(3, 3, size, size))
    assert features.final.shape == (3, net.features)
    assert features.with_statistics().shape == (3, net.features_with_statistics)
    assert features.detail().shape == (3, DETAIL)


def test_from_scratch_pixels_are_normalised_as_ever() -> None:
    images = torch.rand(2, 3, 9, 9)
    torch.testing.assert_close(SmallNet(4).normalised(images), (images - 0.5) * 4, rtol=0, atol=0)


def test_statistics_are_mean_and_standard_deviation_of_each_map() -> None:
    features = SmallNet(4)(torch.rand(2, 3, 32, 32))
    first = features.maps[0]
    statistics = features.with_statistics()[:, features.final.shape[1] :]
    torch.testing.assert_close(statistics[:, :4], first.mean((2, 3)))
    torch.testing.assert_close(statistics[:, 4:8], first.flatten(2).std(2, unbiased=False), atol=2e-3, rtol=0)


def test_detail_is_of_the_differences_between_neighbouring_pixels() -> None:
    images = torch.rand(2, 3, 8, 8)
    detail = SmallNet(4)(images).detail()
    red, green = images.numpy()[:, 0], images.numpy()[:, 1]
    across, colour = np.diff(green, axis=2)[:, :-1], np.diff(np.diff(red - green, axis=2), axis=1)
    for column, differences in ((0, across), (7, colour)):
        sizes = np.abs(differences)
        np.testing.assert_allclose(detail[:, column], sizes.mean((1, 2)), rtol=1e-5)
        np.testing.assert_allclose(detail[:, 9 + column], sizes.std((1, 2)), rtol=1e-3)


def test_training_starts_with_unit_variances() -> None:
    posterior = build_encoder(load_recipe("quick"))(torch.rand(4, 3, 32, 32))
    assert (posterior.log_variance == 0).all()


def test_teacher_is_the_moving_average_of_parameters_and_buffers() -> None:
    recipe = load_recipe("quick")
    student, teacher = build_encoder(recipe), build_encoder(recipe)
    student(torch.rand(16, 3, 32, 32))  # moves the student's BatchNorm buffers
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    update_teacher(teacher, student, 0.9)
    for name, value in student.state_dict().items():
        expected = 0.9 * before[name] + 0.1 * value if value.is_floating_point() else value
        torch.testing.assert_close(teacher.state_dict()[name], expected, msg=name)
    counters = [v for k, v in teacher.state_dict().items() if k.endswith("num_batches_tracked")]
    assert any(counter == 1 for counter in counters)


def test_embedder_answers_on_one_scale() -> None:
    recipe = load_recipe("quick")
    embedder = build_embedder(recipe).eval()
    nn.init.normal_(embedder.log_variance.net[-1].weight)  # type: ignore[arg-type]
    images = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        embedding, variance, uncertainty = embedder(images)
        mean, log_variance = embedder.posterior(embedder.backbone(images.permute(0, 3, 1, 2) / 255))
    dimension = embedder.dimension
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(embedding * dimension**0.5, mean)
    torch.testing.assert_close(variance, log_variance.exp() / dimension)
    torch.testing.assert_close(uncertainty, variance.log().mean(1))
