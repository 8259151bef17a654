"""The API holds to its own schema: schemathesis asks a real server whatever it allows, and what it does not."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from support import BOUND_S, HttpServer, as_base64, http_server, png, tiff

pytestmark = pytest.mark.schema

CHECKS: list[CheckFunction] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]


OPERATIONS = [
    ("post", "/ocr"),
    ("post", "/ocr-pdf"),
    ("post", "/preview"),
    ("post", "/pdf-to-images"),
    ("post", "/export"),
    ("post", "/documents"),
    ("delete", "/documents/{name}"),
    ("post", "/documents/{name}/password"),
    ("put", "/process"),
    ("post", "/v1/convert/file"),
    ("get", "/health"),
    ("get", "/modes"),
    ("get", "/gpu/status"),
    ("post", "/gpu/offload"),
    ("post", "/gpu/release"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with http_server(OCR_BUSY_WAIT="0.5") as made:
        yield made


@pytest.fixture(scope="module")
def api(server: HttpServer) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{server.root}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_answer_is_one_that_the_schema_promises(
    api: schemathesis.BaseSchema, operation: tuple[str, str], mode: GenerationMode
) -> None:
    method, path = operation

    @settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(api[path][method].as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=60)

    try:
        ask()
    except Unsatisfiable:
        pytest.skip("everything is allowed here")


FORM, JSON = "multipart/form-data", "application/json"
READ = {"pages": [{"text": "# A", "width": 40, "height": 20, "blocks": [{"text": "A", "box": [1, 2, 9, 9]}]}]}


@pytest.mark.parametrize(
    ("path", "media_type", "body"),
    [
        ("/ocr", FORM, {"file": png(), "boxes": "true", "annotate": "true", "raw": "true"}),
        ("/ocr", JSON, {"image": as_base64(png()), "mode": "find", "find_term": "x"}),
        ("/ocr-pdf", FORM, {"file": tiff(20, 30), "max_chars": "20"}),
        ("/preview", FORM, {"file": png()}),
        ("/pdf-to-images", FORM, {"file": tiff(20, 30), "pages": "2"}),
        ("/export", FORM, {"file": png(), "result": json.dumps(READ)}),
        ("/export", JSON, READ | {"format": "docx"}),
        ("/gpu/release", JSON, {"force": True}),
    ],
)
def test_what_is_answered_to_real_documents_is_what_the_schema_promises(
    api: schemathesis.BaseSchema, path: str, media_type: str, body: dict[str, object]
) -> None:
    answer = api[path]["post"].Case(body=body, media_type=media_type).call_and_validate(checks=CHECKS)
    assert answer.status_code == 200, answer.text


def test_the_schema_names_every_route_but_the_pages_and_mcp(server: HttpServer) -> None:
    paths = httpx2.get(f"{server.root}/openapi.json", timeout=BOUND_S).json()["paths"]
    assert sorted((method, path) for path, methods in paths.items() for method in methods) == sorted(OPERATIONS)
    for path, methods in paths.items():
        for operation in methods.values():
            assert operation["summary"], path
            assert {"401", "422", "429", "503"} <= set(operation["responses"])
