"""Spans of OpenTelemetry for the stages of a request. They cost nothing without an exporter."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager

from opentelemetry import propagate, trace

_tracer = trace.get_tracer("vssl")


def stages(started: float, **seconds: float) -> None:
    """Children of the current span, laid end to end from `started` on the monotonic clock, each with its length."""
    if not trace.get_current_span().is_recording():
        return
    at = time.time_ns() - round((time.monotonic() - started) * 1e9)
    for name, length in seconds.items():
        end = at + round(length * 1e9)
        _tracer.start_span(name, start_time=at).end(end)
        at = end


def called(path: str, metadata: Mapping[str, str]) -> AbstractContextManager[object]:
    """The span of a gRPC call, a child of the client's `traceparent`; an error inside marks it."""
    parent = propagate.extract(metadata)
    return _tracer.start_as_current_span(path[1:], parent, trace.SpanKind.SERVER, record_exception=False)


def name_route(method: str, path: str) -> None:
    """Name the current span after its route."""
    span = trace.get_current_span()
    if span.is_recording():
        span.update_name(f"{method} {path}")
        span.set_attribute("http.route", path)


def store_call(op: str) -> AbstractContextManager[object]:
    """The span of one call of the store of galleries, a child of the request's."""
    return _tracer.start_as_current_span(f"store {op}")
