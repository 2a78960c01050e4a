"""What `/metrics` shows, for Prometheus: base units, requests and batches counted apart."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

# Else every series has a second one, the time at which this process first counted it.
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

REQUESTS = Counter("vssl_requests", "HTTP requests answered.", ["path", "status"], registry=REGISTRY)
REQUEST_SECONDS = Histogram(
    "vssl_request_seconds", "Time from a request's headers to the end of its answer.", ["path"],
    buckets=_SECONDS, registry=REGISTRY,
)  # fmt: skip
QUEUE_SECONDS = Histogram(
    "vssl_queue_seconds", "Time that decoded requests waited for the engine.", ["model"],
    buckets=_SECONDS, registry=REGISTRY,
)  # fmt: skip
INFERENCE_SECONDS = Histogram(
    "vssl_inference_seconds", "Time of one call of the engine.", ["model"], buckets=_SECONDS, registry=REGISTRY
)
BATCH_IMAGES = Histogram(
    "vssl_batch_images", "Images in one call of the engine: sum / count is the mean batch.", ["model"],
    buckets=_IMAGES, registry=REGISTRY,
)  # fmt: skip
IMAGES = Counter(
    "vssl_images", "Images by outcome: embedded, or the reason they were refused for.", ["model", "outcome"],
    registry=REGISTRY,
)  # fmt: skip
QUEUE_IMAGES = Gauge(
    "vssl_queue_images", "Images that are decoding, waiting or in the engine now.", ["model"], registry=REGISTRY
)
READY = Gauge("vssl_ready", "1 if the model can answer, else 0.", ["model"], registry=REGISTRY)
