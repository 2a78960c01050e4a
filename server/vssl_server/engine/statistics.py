"""Counts and times of a model since it was loaded, as Triton's statistics extension names them."""

import time
from dataclasses import dataclass, field

from vssl_server.engine.jobs import BatchResult


@dataclass
class Duration:
    """How often something happened, and its nanoseconds in all."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """Count one more that took so long."""
        self.count += 1
        self.ns += round(seconds * 1e9)


@dataclass
class Statistics:
    """Requests of all protocols. `inference_count` / `execution_count` is the mean batch."""

    last_inference: int = 0
    """Milliseconds since 1970."""
    inference_count: int = 0
    """Images embedded."""
    execution_count: int = 0
    """Calls of the engine; only its own thread counts here."""
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    """Counted for perf_analyzer, which expects as many as of the others; not timed."""

    def succeeded(self, images: int, seconds: float, answer: BatchResult) -> None:
        """Count an answered request. What was neither queue nor engine is its decoding."""
        self.last_inference = time.time_ns() // 1_000_000
        self.inference_count += images
        self.success.add(seconds)
        self.queue.add(answer.queue_seconds)
        self.compute_infer.add(answer.inference_seconds)
        self.compute_output.add(0.0)
        self.compute_input.add(max(0.0, seconds - answer.queue_seconds - answer.inference_seconds))
