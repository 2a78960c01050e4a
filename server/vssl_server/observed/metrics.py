"""What `/metrics` shows, for Prometheus: base units, requests and batches counted apart."""

import os
import platform
from collections.abc import Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

import vssl
from vssl.uncertainty.calibrated import FLAGS

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable with the folder where workers keep their counts, so that each can report those of all."""

# Otherwise every series has a second one, with the time of its first count.
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_UNCERTAINTY = [half / 2 for half in range(-24, 5)]
"""A mean log variance: about −log D, and a few units more for an image that means nothing to the model."""


def _histogram(name: str, text: str, label: str, buckets: Sequence[float] = _SECONDS) -> Histogram:
    return Histogram(f"vssl_{name}", text, [label], buckets=buckets, registry=REGISTRY)


REQUESTS = Counter("vssl_requests", "HTTP requests answered.", ["path", "status"], registry=REGISTRY)
REFUSALS = Counter("vssl_refusals", "Requests answered with an error, by its code.", ["cause"], registry=REGISTRY)
REQUEST_SECONDS = _histogram(
    "request_duration_seconds", "Time from a request's headers to the end of its answer.", "path"
)
DECODE_SECONDS = _histogram("decode_duration_seconds", "Time in which the images of a request were decoded.", "model")
QUEUE_SECONDS = _histogram(
    "queue_duration_seconds", "Time that requests waited for a thread to decode them and for the engine.", "model"
)
INFERENCE_SECONDS = _histogram("inference_duration_seconds", "Time of one call of the engine.", "model")
ENCODE_SECONDS = _histogram("encode_duration_seconds", "Time in which an answer was written.", "model")
BATCH_IMAGES = _histogram(
    "batch_images", "Images in one call of the engine: sum / count is the mean batch.", "model", _IMAGES
)
UNCERTAINTY = _histogram(
    "uncertainty", "Uncertainty of the images embedded; where it moves, the images have changed.", "model", _UNCERTAINTY
)
STORE_SECONDS = _histogram("store_duration_seconds", "Time of one call of the store of galleries.", "op")
IMAGES = Counter(
    "vssl_images", "Images by outcome: embedded, cached, or why refused.", ["model", "outcome"],
    registry=REGISTRY,
)  # fmt: skip
JUDGED = Counter(
    "vssl_judged_images", "Answers about an image that a calibration has judged.", ["model"], registry=REGISTRY
)
FLAGGED = Counter(
    "vssl_flagged_images", "Those of them with a flag; one image may have several.", ["model", "flag"],
    registry=REGISTRY,
)  # fmt: skip
QUEUE_IMAGES = Gauge(
    "vssl_queue_images", "Images that are decoding, waiting or in the engine now.", ["model", "version"],
    registry=REGISTRY, multiprocess_mode="livesum",
)  # fmt: skip
READY = Gauge(
    "vssl_ready", "1 if the model can answer, else 0.", ["model", "version"], registry=REGISTRY,
    multiprocess_mode="livemin",
)  # fmt: skip
GALLERY_READY = Gauge(
    "vssl_gallery_ready", "1 if the store of galleries answers, else 0.", registry=REGISTRY,
    multiprocess_mode="livemin",
)  # fmt: skip
MODEL = Gauge(
    "vssl_model_info", "What runs a model; always 1.", ["model", "version", "provider", "precision"],
    registry=REGISTRY, multiprocess_mode="livemax",
)  # fmt: skip
ENGINE_THREADS = Gauge(
    "vssl_engine_threads", "Threads of a call of the engine, by whether its batch is full.",
    ["model", "version", "batch"], registry=REGISTRY, multiprocess_mode="livemax",
)  # fmt: skip
DECODE_QUEUE_TASKS = Gauge(
    "vssl_decode_queue_tasks", "Tasks that wait for a thread that decodes.", registry=REGISTRY,
    multiprocess_mode="livesum",
)  # fmt: skip
PENDING_PIXELS = Gauge(
    "vssl_pending_pixels", "Pixels of the images in flight, by their headers.", registry=REGISTRY,
    multiprocess_mode="livesum",
)  # fmt: skip
BUILD = Gauge(
    "vssl_build_info", "Versions of this server; always 1.", ["version", "python", "onnxruntime"], registry=REGISTRY,
    multiprocess_mode="livemax",
)  # fmt: skip


def show_build() -> None:
    """Let `vssl_build_info` say which versions run."""
    import onnxruntime

    BUILD.labels(vssl.__version__, platform.python_version(), onnxruntime.__version__).set(1)


LOG_DROPPED = Counter(
    "vssl_log_lines_dropped", "Lines of the log that nobody read in time.", registry=REGISTRY
)  # fmt: skip
LOOP_LAG = Histogram(
    "vssl_event_loop_lag_duration_seconds", "By how much a timer was late: all else waited for as long.",
    buckets=_SECONDS, registry=REGISTRY,
)  # fmt: skip


def exposition() -> bytes:
    """All series in Prometheus's text format; with several workers the sums over them, without the process's own."""
    if FOLDER not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


class ModelMetrics:
    """The series of one model. Looking each up by its label takes longer than counting."""

    def __init__(self, model: str) -> None:
        self._model = model
        self.decode_seconds = DECODE_SECONDS.labels(model)
        self.queue_seconds = QUEUE_SECONDS.labels(model)
        self.inference_seconds = INFERENCE_SECONDS.labels(model)
        self.encode_seconds = ENCODE_SECONDS.labels(model)
        self.batch_images = BATCH_IMAGES.labels(model)
        self.uncertainty = UNCERTAINTY.labels(model)
        self.embedded = IMAGES.labels(model, "embedded")
        self.cached = IMAGES.labels(model, "cached")
        self._judged = JUDGED.labels(model)
        self._flagged = {flag: FLAGGED.labels(model, flag) for flag in FLAGS}

    def judged(self, images: int, flagged: Mapping[str, int]) -> None:
        """Count answers that a calibration has judged, and among them those with each flag."""
        self._judged.inc(images)
        for flag, count in flagged.items():
            if count:
                self._flagged[flag].inc(count)

    def refused(self, reason: str) -> None:
        """Count an image that was refused."""
        IMAGES.labels(self._model, reason).inc()
