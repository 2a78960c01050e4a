"""Schemathesis over the routes of galleries: whatever it makes up, each answer is one that the document tells of."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis.checks import CHECKS, load_all_checks

from tests.server.process.test_serve import Server, running
from vssl.bundle.reading import Bundle

load_all_checks()

# It can't know which bytes are an image, which fields a gallery has, or which names are taken.
IGNORED = [CHECKS.get_one("positive_data_acceptance")]
NAME = "shoes"
LONGEST_QUERY = 60_000
"""Bytes. A head of over 64 KiB is refused where there is no request yet: the answer has no body."""


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tiny_bundle.location, "--galleries", str(tmp_path_factory.mktemp("schema") / "galleries")) as server:
        yield server


def created(server: Server) -> None:
    """The gallery that the requests name, which one of them may have dropped."""
    body = json.dumps({"fields": {"year": "integer"}}).encode()
    headers = {"Content-Type": "application/json"}
    asked = urllib.request.Request(f"{server.url}/v1/galleries/{NAME}", body, headers, method="PUT")
    with urllib.request.urlopen(asked) as answer:
        assert answer.status in (200, 201)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
@pytest.mark.parametrize("examples", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_every_answer_is_one_that_the_document_tells_of(
    server: Server, subtests: pytest.Subtests, examples: int, mode: schemathesis.GenerationMode
) -> None:
    whole = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    document = whole.include(path_regex="^/v1/(galleries|aliases|jobs)").exclude(path_regex="/rows$")  # Arrow, no JSON
    operations = [found.ok() for found in document.get_all_operations()]  # type: ignore[union-attr]
    assert len(operations) > 30
    for operation in operations:
        if mode.is_negative and not (operation.body or operation.query):
            continue  # nothing in it can be wrong
        created(server)

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            if "name" in (case.path_parameters or {}) and "alias" not in case.operation.path:
                case.path_parameters["name"] = NAME
            assume(len(json.dumps(case.query, default=str)) < LONGEST_QUERY)
            case.call_and_validate(excluded_checks=IGNORED)

        with subtests.test(operation.label):
            check()
