"""Which variables a child starts with."""

from __future__ import annotations

import pytest

from deepseek_ocr_mcp.worker.environment import SILENCED, child_environment

OWN = {
    "PATH": "/usr/bin",
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "2",
    "CUDA_VISIBLE_DEVICES": "0",
    "TESSDATA_PREFIX": "/data",
    "OCR_THREADS": "3",
}


@pytest.mark.parametrize(
    "name",
    [
        "OCR_AUTH_TOKEN", "OCR_REMOTE_KEY", "RAY_AUTH_TOKEN", "HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN", "https_proxy", "SSH_AUTH_SOCK", "CUDA_API_KEY", "NVIDIA_API_KEY", "PYTHON_KEYRING_PASSWORD",
        "DATABASE_URL", "KUBERNETES_SERVICE_HOST", "PGPASSWORD",
    ],
)  # fmt: skip
def test_a_variable_that_no_library_of_a_child_needs_is_withheld(name: str) -> None:
    assert name not in child_environment({**OWN, name: "x"})


def test_what_libraries_need_is_handed_on() -> None:
    assert {name: value for name, value in child_environment(OWN).items() if name not in SILENCED} == OWN


def test_the_operator_can_name_what_an_engine_of_its_own_needs() -> None:
    given = child_environment({**OWN, "MY_KEY": "x", "MY_URL": "y", "OTHER": "z", "OCR_WORKER_ENV": "my_key, MY_URL"})
    assert given["MY_KEY"] == "x"
    assert given["MY_URL"] == "y"
    assert "OTHER" not in given


def test_no_library_of_a_child_calls_home_whatever_the_own_environment_says() -> None:
    given = child_environment({**OWN, "ORT_DISABLE_TELEMETRY": "0", "RAY_USAGE_STATS_ENABLED": "1"})
    assert given["ORT_DISABLE_TELEMETRY"] == "1"
    assert given["RAY_USAGE_STATS_ENABLED"] == "0"
