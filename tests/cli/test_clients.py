"""The entries of MCP clients: their forms, and where they belong on each system."""

from __future__ import annotations

import json
import os
import tomllib

import pytest
import yaml

from deepseek_ocr_mcp.cli.clients import CLIENTS, config_file, entry_for_program, entry_for_server
from deepseek_ocr_mcp.cli.parser import build_parser

URL = "https://ocr.example.org/mcp"
KEYS = {
    "claude-desktop": "mcpServers",
    "cursor": "mcpServers",
    "gemini-cli": "mcpServers",
    "lm-studio": "mcpServers",
    "vscode": "servers",
    "windsurf": "mcpServers",
    "zed": "context_servers",
}
"""The key under which each client with a JSON file keeps its servers."""


@pytest.mark.parametrize(("client", "key"), sorted(KEYS.items()))
def test_a_json_entry_starts_the_program_by_its_absolute_path(client: str, key: str) -> None:
    entry = json.loads(entry_for_program(client))[key]["deepseek-ocr"]
    assert os.path.isabs(entry["command"])
    assert isinstance(entry["args"], list)


@pytest.mark.parametrize(
    ("client", "name"),
    [("cursor", "url"), ("vscode", "url"), ("windsurf", "serverUrl"), ("zed", "url"), ("lm-studio", "url"),
     ("gemini-cli", "httpUrl")],
)  # fmt: skip
def test_a_json_entry_for_a_server_has_its_address_under_the_name_that_the_client_reads(client: str, name: str) -> None:
    entry = json.loads(entry_for_server(client, URL))[KEYS[client]]["deepseek-ocr"]
    assert entry[name] == URL
    assert entry["headers"]["Authorization"].startswith("Bearer ")


def test_codex_and_goose_get_their_own_forms() -> None:
    codex = tomllib.loads(entry_for_program("codex"))["mcp_servers"]["deepseek-ocr"]
    assert os.path.isabs(codex["command"])
    assert tomllib.loads(entry_for_server("codex", URL))["mcp_servers"]["deepseek-ocr"]["url"] == URL
    goose = yaml.safe_load(entry_for_program("goose"))["extensions"]["deepseek-ocr"]
    assert (goose["type"], goose["enabled"]) == ("stdio", True)
    assert os.path.isabs(goose["cmd"])
    remote = yaml.safe_load(entry_for_server("goose", URL))["extensions"]["deepseek-ocr"]
    assert (remote["type"], remote["uri"]) == ("streamable_http", URL)
    assert remote["headers"]["Authorization"].startswith("Bearer ")


def test_claude_code_gets_a_command_and_open_webui_the_fields_of_its_form() -> None:
    assert entry_for_program("claude-code").startswith("claude mcp add deepseek-ocr -- /")
    assert "--transport http deepseek-ocr https://" in entry_for_server("claude-code", URL)
    assert "serve --transport http" in entry_for_program("open-webui")
    assert f"URL: {URL}" in entry_for_server("open-webui", URL)


@pytest.mark.parametrize("client", sorted(CLIENTS))
def test_no_entry_holds_the_token(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_AUTH_TOKEN", "correct-horse-battery")
    assert "correct-horse" not in entry_for_server(client, URL) + entry_for_program(client)


@pytest.mark.parametrize(
    ("client", "system", "path"),
    [
        ("claude-desktop", "Linux", "/home/me/.config/Claude/claude_desktop_config.json"),
        ("claude-desktop", "Darwin", "/home/me/Library/Application Support/Claude/claude_desktop_config.json"),
        ("claude-desktop", "Windows", r"C:\Users\me\AppData\Roaming\Claude\claude_desktop_config.json"),
        ("vscode", "Darwin", "/home/me/Library/Application Support/Code/User/mcp.json"),
        ("vscode", "Windows", r"C:\Users\me\AppData\Roaming\Code\User\mcp.json"),
        ("cursor", "Linux", "/home/me/.cursor/mcp.json"),
        ("cursor", "Windows", r"C:\Users\me\.cursor\mcp.json"),
        ("zed", "Linux", "/home/me/.config/zed/settings.json"),
        ("zed", "Darwin", "/home/me/.config/zed/settings.json"),
        ("zed", "Windows", r"C:\Users\me\AppData\Roaming\Zed\settings.json"),
        ("goose", "Windows", r"C:\Users\me\AppData\Roaming\Block\goose\config\config.yaml"),
        ("goose", "Darwin", "/home/me/.config/goose/config.yaml"),
        ("windsurf", "Windows", r"C:\Users\me\.codeium\windsurf\mcp_config.json"),
        ("open-webui", "Linux", ""),
        ("claude-code", "Windows", ""),
    ],
)
def test_each_system_has_the_file_in_its_own_place(client: str, system: str, path: str) -> None:
    home = r"C:\Users\me" if system == "Windows" else "/home/me"
    assert config_file(client, system, {}, home) == path


def test_folders_that_the_environment_names_are_used() -> None:
    assert config_file("zed", "Linux", {"XDG_CONFIG_HOME": "/cfg"}, "/home/me") == "/cfg/zed/settings.json"
    appdata = {"APPDATA": r"D:\Roaming"}
    assert config_file("vscode", "Windows", appdata, r"C:\Users\me") == r"D:\Roaming\Code\User\mcp.json"


def test_the_entry_is_all_of_standard_output_and_its_place_is_told_beside_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = build_parser().parse_args(["client-config", "cursor"])
    assert asked.run(asked) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)
    assert "mcp.json" in err
