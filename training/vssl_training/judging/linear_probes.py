"""Linear probes: how well a linear layer on frozen features tells the classes apart, offline and while training."""

import numpy as np
import numpy.typing as npt

from vssl.arrays import Floats, Integers

EPOCHS, STEPS, BATCH, RATE, MOMENTUM = 100, (60, 80), 256, 0.3, 0.9


def linear_accuracy(
    features: Floats, labels: Integers, queries: Floats, query_labels: Integers, seed: int = 0
) -> float:
    """Accuracy on queries [Q, F] of a linear classifier trained on features [N, F] with labels [N].

    Features may be those of several random views of each image [K, N, F]: each epoch takes the next view.

    The protocol of solo-learn's table: SGD with rate 0.3, momentum 0.9 and no decay, batches of 256, 100 epochs, the
    rate divided by 10 after the 60th and the 80th. Features are first standardised as the training features are, and
    scaled so that their largest variance along any direction is 1. A linear layer could do so itself; here it makes the
    rate suit features of any scale.
    """
    views = features if features.ndim == 3 else features[None]
    first = views[0]
    mean = first.mean(0)
    spread = first.std(0).astype(np.float64)
    spread = spread.clip(1e-6 * float(spread.max()) + 1e-12)
    largest = float(np.linalg.norm((first - mean) / spread, 2)) ** 2 / len(first)
    scale = 1 / (spread * max(largest, 1e-12) ** 0.5)
    *shown, tested = (((part - mean) * scale).astype(np.float32) for part in (*views, queries))
    classes = int(max(labels.max(), query_labels.max())) + 1
    targets = np.eye(classes, dtype=np.float32)[labels]
    weight, bias = np.zeros((first.shape[1], classes), np.float32), np.zeros(classes, np.float32)
    weight_speed, bias_speed = np.zeros_like(weight), np.zeros_like(bias)
    rng = np.random.default_rng(seed)
    for epoch in range(EPOCHS):
        train = shown[epoch % len(shown)]
        rate = RATE * 0.1 ** sum(epoch >= step for step in STEPS)
        order = rng.permutation(len(train))
        for start in range(0, len(train), BATCH):
            chosen = order[start : start + BATCH]
            x = train[chosen]
            error = (softmax(x @ weight + bias) - targets[chosen]) / len(chosen)  # gradient of the cross-entropy
            weight_speed = MOMENTUM * weight_speed + x.T @ error
            bias_speed = MOMENTUM * bias_speed + error.sum(0)
            weight -= rate * weight_speed
            bias -= rate * bias_speed
    return float(((tested @ weight + bias).argmax(1) == query_labels).mean())


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows of [N, C] as probabilities."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: npt.NDArray[np.float32] = powers / powers.sum(1, keepdims=True)
    return shares


RIDGE = 1e-3
"""Penalty of the linear probe, as a part of the features' mean variance."""


def probe_accuracy(queries: Floats, labels: Integers, bank: Floats, bank_labels: Integers) -> float:
    """Accuracy of a linear classifier on features [·, F]: ridge regression of the bank's one-hot labels."""
    centre = bank.mean(0)
    known = (bank - centre).astype(np.float64)
    targets = np.eye(int(max(labels.max(), bank_labels.max())) + 1)[bank_labels]
    covariance = known.T @ known
    penalty = RIDGE * np.trace(covariance) / len(covariance) + 1e-9
    weights = np.linalg.solve(covariance + penalty * np.eye(len(covariance)), known.T @ (targets - targets.mean(0)))
    scores = (queries - centre) @ weights + targets.mean(0)
    return float((scores.argmax(1) == labels).mean())
