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
    monkeypatch.setenv("OCR_AUTH_TOKEN", "s3cret")
    assert "s3cret" not in repr(load_settings())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_addresses(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "", "localhost.example.org"])
def test_addresses_that_others_can_reach(host: str) -> None:
    assert not is_loopback(host)
