"""schemathesis: requests made from OpenAPI, good and bad, find no fault of the server and no undocumented answer."""

from __future__ import annotations

import re

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from requests_http import png
from wan2_i2v.doors.http.app import create_app
from wan2_i2v.doors.http.settings import HttpSettings

ENDLESS = re.compile(r"/(events|runsync|sync|stream/.*)$")
"""These wait for jobs, of which none ends here; the live tests call them."""
EXAMPLES = 8

PICTURES = re.compile(r"/(run|videos|plan|jobs|pictures)$")
"""What is posted here is about a picture; which texts are one, or the id of one, is nothing that a JSON schema can say."""


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_fault_and_no_undocumented_answer(service, mode):
    app = create_app(service, HttpSettings(requests_per_second=1e6, burst=10**9, allowed_hosts="testserver"))
    service.shelf.put(png())
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    found: dict[str, str] = {}
    tested = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if ENDLESS.search(operation.path):
            continue

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        def no_fault(case):
            without = [positive_data_acceptance] if PICTURES.search(case.path) else []
            case.call_and_validate(excluded_checks=without)

        tested += 1
        try:
            no_fault()
        except Unsatisfiable:
            # Nothing is sent there, so that nothing can be wrong with it.
            continue
        except (Exception, BaseExceptionGroup) as error:
            found[operation.label] = "\n".join(map(str, getattr(error, "exceptions", [error])))
    assert not found, "\n\n".join(f"== {label}\n{text}" for label, text in found.items())
    assert tested > 30
