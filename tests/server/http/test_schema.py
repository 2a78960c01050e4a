"""Schemathesis over the whole OpenAPI document: whatever it makes up, each answer is one that the document tells of."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS, load_all_checks

from tests.server.process.test_serve import Server, running
from vssl.bundle.reading import Bundle

load_all_checks()

# It can't know which bytes are an image, so that valid requests may be refused: 422 tells the reason.
IGNORED = [CHECKS.get_one("positive_data_acceptance")]


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The command itself, whose models may be loaded and unloaded."""
    keys = tmp_path_factory.mktemp("keys") / "admin"
    keys.write_text("admin\n")
    with running(tiny_bundle.location, "--admin-keys-file", str(keys)) as server:
        yield server


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_answer_is_one_that_the_document_tells_of(
    server: Server, subtests: pytest.Subtests, mode: schemathesis.GenerationMode
) -> None:
    document = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [found.ok() for found in document.get_all_operations()]  # type: ignore[union-attr]
    assert len(operations) == 26
    for operation in operations:
        if mode.is_negative and not operation.body:
            continue  # no body, so that nothing in it can be wrong

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            case.call_and_validate(excluded_checks=IGNORED, headers={"Authorization": "Bearer admin"})

        with subtests.test(operation.label):
            check()
