"""Where settings come from, and which wins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deepseek_ocr_mcp.config import is_loopback, load_settings
from deepseek_ocr_mcp.errors import BadRequest


def test_flags_win_over_the_environment_and_the_environment_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.env"
    file.write_text("PORT=1\nOCR_PDF_DPI=101\nOCR_MAX_PAGES=11\n")
    monkeypatch.setenv("PORT", "2")
    monkeypatch.setenv("OCR_PDF_DPI", "102")
    settings = load_settings(str(file), {"port": 3, "host": None})
    assert (settings.port, settings.ocr_pdf_dpi, settings.ocr_max_pages) == (3, 102, 11)


def test_a_stray_env_file_in_the_current_folder_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("OCR_ENGINE=evil:Engine\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings().ocr_engine == "auto"
    monkeypatch.setenv("OCR_ENV_FILE", str(tmp_path / ".env"))
    assert load_settings().ocr_engine == "evil:Engine"


def test_a_wrong_value_is_an_error_that_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_MAX_FILE_MB", "many")
    with pytest.raises(BadRequest, match="OCR_MAX_FILE_MB") as caught:
        load_settings()
    assert "docs/configuration.md" in caught.value.remedy


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"OCR_GPUS": "all", "OCR_GPU": "1"}, "OCR_GPUS: .*several cards, and OCR_GPU=1 names one; unset one"),
        ({"OCR_GPUS": "0,1", "OCR_GPU": "cpu"}, "several cards, and OCR_GPU=cpu"),
        ({"OCR_GPUS": "cpu,cpu"}, "OCR_CPU_WORKERS"),
        ({"OCR_GPUS": "all,1"}, "all means every card"),
        ({"OCR_GPUS": "auto"}, "OCR_GPUS=all"),
        ({"OCR_GPUS": "first"}, "'first' is neither an index nor a UUID"),
        ({"OCR_CPU_WORKERS": "0"}, "OCR_CPU_WORKERS"),
    ],
)
def test_cards_that_cannot_be_meant_are_refused_with_what_to_set(
    wrong: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadRequest, match=said):
        load_settings()


def test_several_cards_are_named_by_indices_and_uuids(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().ocr_gpus == ()
    monkeypatch.setenv("OCR_GPUS", " 0, GPU-3f2a ,MIG-1,")
    monkeypatch.setenv("OCR_GPU", "auto")
    assert load_settings().ocr_gpus == ("0", "GPU-3f2a", "MIG-1")


def test_a_settings_file_that_is_missing_is_an_error() -> None:
    with pytest.raises(BadRequest, match=r"no\.env"):
        load_settings("/nowhere/no.env")


def test_folders_are_split_and_made_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("OCR_ALLOWED_DIRS", os.pathsep.join([str(tmp_path / "link"), "", "~"]))
    assert load_settings().ocr_allowed_dirs == (
        str(tmp_path / "real"),
        os.path.realpath(os.path.expanduser("~")),
    )


def test_hosts_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_ALLOWED_HOSTS", "a.example, b.example:8443 ,")
    assert load_settings().ocr_allowed_hosts == ("a.example", "b.example:8443")


def test_an_empty_token_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_AUTH_TOKEN", "")
    assert load_settings().ocr_auth_token is None
    monkeypatch.setenv("OCR_AUTH_TOKEN", "s3cret-s3cret-s3cret")
    assert "s3cret" not in repr(load_settings())


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("OCR_AUTH_TOKEN", "fifteen letters", "16 characters"),
        ("OCR_AUTH_TOKEN", "long enough, but naïve", "no header can carry"),
        ("OCR_AUTH_TOKEN", "long enough, but\nof two lines", "no header can carry"),
        ("OCR_REMOTE_KEY", "schlüssel", "no header can carry"),
        ("OCR_ALLOWED_HOSTS", "*", "name each one"),
        ("OCR_ALLOWED_HOSTS", "ocr.example.org,*.example.org:*", "name each one"),
        ("OCR_ALLOWED_ORIGINS", "*", "name each one"),
        ("OCR_CORS_ORIGINS", "https://*", "name each one"),
    ],
)
def test_a_setting_that_protects_nothing_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadRequest, match=reason) as caught:
        load_settings()
    assert name in caught.value.message
    assert "schl" not in caught.value.message
    assert "naïve" not in caught.value.message


def test_hosts_with_any_port_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_ALLOWED_HOSTS", "10.0.0.5:*, ocr.example.org")
    assert load_settings().ocr_allowed_hosts == ("10.0.0.5:*", "ocr.example.org")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_addresses(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "", "localhost.example.org"])
def test_addresses_that_others_can_reach(host: str) -> None:
    assert not is_loopback(host)
