"""`client-config`: prints the configuration that an MCP client needs to start or to reach this server.

The entry goes to standard output, so that it can be piped. The place where it belongs goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import ntpath
import os
import platform
import posixpath
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["CLIENTS", "ClientSpec", "config_file", "entry_for_program", "entry_for_server", "run_client_config"]

SERVER_NAME: Final = "deepseek-ocr"
TOKEN_NAME: Final = "OCR_AUTH_TOKEN"  # noqa: S105 - the name of a variable
TOKEN_PLACE: Final = "<OCR_AUTH_TOKEN of the server>"  # noqa: S105 - to be filled in
TOOL_SECONDS: Final = 300
"""For clients that give up after a bound of their own: longer than `OCR_REPLY_SECONDS`, and than a model loads."""

LINUX: Final = "Linux"
MACOS: Final = "Darwin"
WINDOWS: Final = "Windows"


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """An MCP client: the form of its entries, and where they belong."""

    program: Callable[[str, Sequence[str]], str]
    """The entry for a command and its arguments."""
    server: Callable[[str], str]
    """The entry for an address. The token stays out of it where the client has another place for the token."""
    place: str
    """The place where the entry belongs, in words for all systems."""
    files: Mapping[str, str]
    """The file of the entry by system, with `~`, `%APPDATA%` or `$XDG_CONFIG_HOME`; empty where there is none."""


def run_client_config(arguments: argparse.Namespace) -> int:
    """Print the entry, and where it belongs."""
    client, system = CLIENTS[arguments.client], platform.system()
    print(entry_for_server(arguments.client, arguments.url) if arguments.url else entry_for_program(arguments.client))
    file = config_file(arguments.client, system, os.environ, os.path.expanduser("~"))
    if file:
        print(f"Put this into {file}, beside what is there. {client.place}", file=sys.stderr)
    else:
        print(client.place, file=sys.stderr)
    return 0


def entry_for_program(client: str) -> str:
    """The entry with which a client starts this program itself, by its absolute path."""
    command, *rest = _own_command()
    return CLIENTS[client].program(command, rest)


def entry_for_server(client: str, url: str) -> str:
    """The entry with which a client reaches a server that runs elsewhere."""
    return CLIENTS[client].server(url)


def config_file(client: str, system: str, environ: Mapping[str, str], home: str) -> str:
    """The path of the file that has a client's entries; empty where the client has no such file.

    Args:
        client: a name of `CLIENTS`.
        system: `Linux`, `Darwin` or `Windows`, as `platform.system()` says it.
        environ: the environment, for `APPDATA` and `XDG_CONFIG_HOME`.
        home: the home folder.
    """
    files = CLIENTS[client].files
    join = (ntpath if system == WINDOWS else posixpath).join
    first, *rest = files.get(system, files.get("", "")).split("/")
    if not first:
        return ""
    folders = {
        "~": home,
        "%APPDATA%": environ.get("APPDATA") or join(home, "AppData", "Roaming"),
        "$XDG_CONFIG_HOME": environ.get("XDG_CONFIG_HOME") or join(home, ".config"),
    }
    path: str = join(folders[first], *rest)
    return path


def _own_command() -> list[str]:
    """This program as an absolute command: a desktop client has another PATH than a shell."""
    beside = Path(sys.executable).with_name("deepseek-ocr-mcp" + (".exe" if os.name == "nt" else ""))
    if beside.is_file():
        return [str(beside)]
    return [sys.executable, "-m", "deepseek_ocr_mcp"]


# -- the forms of the clients


def _json_entry(key: str, entry: dict[str, Any], **beside: Any) -> str:
    return json.dumps({key: {SERVER_NAME: entry}, **beside}, indent=2)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _shell_words(*words: str) -> str:
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _standard_program(command: str, rest: Sequence[str]) -> str:
    """The form that most clients share."""
    return _json_entry("mcpServers", {"command": command, "args": list(rest)})


def _claude_desktop_server(url: str) -> str:
    # The file knows programs only: mcp-remote is one, and Node's npx brings it.
    entry = {
        "command": "npx",
        "args": ["-y", "mcp-remote", url, "--header", "Authorization:${AUTH_HEADER}"],
        "env": {"AUTH_HEADER": f"Bearer {TOKEN_PLACE}"},
    }
    return _json_entry("mcpServers", entry)


def _claude_code_program(command: str, rest: Sequence[str]) -> str:
    return f"claude mcp add {SERVER_NAME} -- {_shell_words(command, *rest)}"


def _claude_code_server(url: str) -> str:
    variable = f"$env:{TOKEN_NAME}" if os.name == "nt" else f"${TOKEN_NAME}"  # the shell puts the token in
    header = f'"Authorization: Bearer {variable}"'
    return f"claude mcp add --transport http {SERVER_NAME} {_shell_words(url)} --header {header}"


def _cursor_server(url: str) -> str:
    return _json_entry("mcpServers", {"url": url, "headers": _bearer(f"${{env:{TOKEN_NAME}}}")})


def _vscode_program(command: str, rest: Sequence[str]) -> str:
    return _json_entry("servers", {"type": "stdio", "command": command, "args": list(rest)})


def _vscode_server(url: str) -> str:
    token = {"type": "promptString", "id": "ocr-token", "description": TOKEN_NAME, "password": True}
    entry = {"type": "http", "url": url, "headers": _bearer("${input:ocr-token}")}
    return _json_entry("servers", entry, inputs=[token])


def _codex_program(command: str, rest: Sequence[str]) -> str:
    lines = [f"command = {json.dumps(command)}", f"args = {json.dumps(list(rest))}"]
    return "\n".join([f"[mcp_servers.{SERVER_NAME}]", *lines, f"tool_timeout_sec = {TOOL_SECONDS}"])


def _codex_server(url: str) -> str:
    lines = [f"url = {json.dumps(url)}", f'bearer_token_env_var = "{TOKEN_NAME}"']
    return "\n".join([f"[mcp_servers.{SERVER_NAME}]", *lines, f"tool_timeout_sec = {TOOL_SECONDS}"])


def _windsurf_server(url: str) -> str:
    return _json_entry("mcpServers", {"serverUrl": url, "headers": _bearer(f"${{env:{TOKEN_NAME}}}")})


def _zed_program(command: str, rest: Sequence[str]) -> str:
    return _json_entry("context_servers", {"source": "custom", "command": command, "args": list(rest), "env": {}})


def _zed_server(url: str) -> str:
    return _json_entry("context_servers", {"source": "custom", "url": url, "headers": _bearer(TOKEN_PLACE)})


def _lm_studio_server(url: str) -> str:
    return _json_entry("mcpServers", {"url": url, "headers": _bearer(TOKEN_PLACE)})


def _open_webui_program(command: str, rest: Sequence[str]) -> str:
    # Open WebUI starts no programs: it reaches servers over HTTP.
    start = _shell_words(command, *rest, "serve", "--transport", "http")
    return f"{start}\n{_open_webui_server('http://127.0.0.1:8001/mcp')}"


def _open_webui_server(url: str) -> str:
    lines = ("Type: MCP (Streamable HTTP)", f"URL: {url}", "Auth: Bearer", f"Key: {TOKEN_PLACE}")
    return "\n".join(lines)


def _goose_program(command: str, rest: Sequence[str]) -> str:
    lines = ("type: stdio", f"cmd: {json.dumps(command)}", f"args: {json.dumps(list(rest))}")
    return _goose(*lines)


def _goose_server(url: str) -> str:
    header = json.dumps(f"Bearer ${{{TOKEN_NAME}}}")
    lines = ("type: streamable_http", f"uri: {json.dumps(url)}", f"env_keys: [{TOKEN_NAME}]", "headers:")
    return _goose(*lines, f"  Authorization: {header}")


def _goose(*lines: str) -> str:
    """YAML, whose strings may be written as JSON writes them."""
    about = (f"name: {SERVER_NAME}", "description: Reads text from images and PDFs", "enabled: true")
    body = [*about, f"timeout: {TOOL_SECONDS}", *lines]
    return "\n".join(["extensions:", f"  {SERVER_NAME}:", *(f"    {line}" for line in body)])


def _gemini_program(command: str, rest: Sequence[str]) -> str:
    entry = {"command": command, "args": list(rest), "timeout": TOOL_SECONDS * 1000}
    return _json_entry("mcpServers", entry)


def _gemini_server(url: str) -> str:
    entry = {"httpUrl": url, "headers": _bearer(f"${TOKEN_NAME}"), "timeout": TOOL_SECONDS * 1000}
    return _json_entry("mcpServers", entry)


CLIENTS: Final[dict[str, ClientSpec]] = {
    "claude-desktop": ClientSpec(
        _standard_program,
        _claude_desktop_server,
        "Claude Desktop opens it with Settings → Developer → Edit Config; start Claude Desktop again afterwards.",
        {
            LINUX: "$XDG_CONFIG_HOME/Claude/claude_desktop_config.json",
            MACOS: "~/Library/Application Support/Claude/claude_desktop_config.json",
            WINDOWS: "%APPDATA%/Claude/claude_desktop_config.json",
        },
    ),
    "claude-code": ClientSpec(
        _claude_code_program,
        _claude_code_server,
        "Run this in a shell. With `--scope user` before the name, every project has it.",
        {},
    ),
    "cursor": ClientSpec(
        _standard_program,
        _cursor_server,
        "For one project alone, put it into .cursor/mcp.json there.",
        {"": "~/.cursor/mcp.json"},
    ),
    "vscode": ClientSpec(
        _vscode_program,
        _vscode_server,
        "VS Code opens it with `MCP: Open User Configuration`. For one project alone: .vscode/mcp.json.",
        {
            LINUX: "$XDG_CONFIG_HOME/Code/User/mcp.json",
            MACOS: "~/Library/Application Support/Code/User/mcp.json",
            WINDOWS: "%APPDATA%/Code/User/mcp.json",
        },
    ),
    "codex": ClientSpec(
        _codex_program,
        _codex_server,
        "The command line, the app and the IDE extension share it.",
        {"": "~/.codex/config.toml"},
    ),
    "windsurf": ClientSpec(
        _standard_program,
        _windsurf_server,
        "Windsurf opens it with Windsurf Settings → Cascade → MCP Servers; press refresh afterwards.",
        {"": "~/.codeium/windsurf/mcp_config.json"},
    ),
    "zed": ClientSpec(
        _zed_program,
        _zed_server,
        "Zed opens it with `zed: open settings file`.",
        {
            LINUX: "$XDG_CONFIG_HOME/zed/settings.json",
            MACOS: "~/.config/zed/settings.json",
            WINDOWS: "%APPDATA%/Zed/settings.json",
        },
    ),
    "lm-studio": ClientSpec(
        _standard_program,
        _lm_studio_server,
        "LM Studio opens it with Program → Install → Edit mcp.json.",
        {"": "~/.lmstudio/mcp.json"},
    ),
    "open-webui": ClientSpec(
        _open_webui_program,
        _open_webui_server,
        "Fill these in at Admin Settings → External Tools → Add. Open WebUI in a container reaches this machine as "
        "host.docker.internal: docs/recipes.md says what the server needs then.",
        {},
    ),
    "goose": ClientSpec(
        _goose_program,
        _goose_server,
        "Goose asks for the token itself where the entry names OCR_AUTH_TOKEN.",
        {"": "~/.config/goose/config.yaml", WINDOWS: "%APPDATA%/Block/goose/config/config.yaml"},
    ),
    "gemini-cli": ClientSpec(
        _gemini_program,
        _gemini_server,
        "For one project alone, put it into .gemini/settings.json there.",
        {"": "~/.gemini/settings.json"},
    ),
}
"""The clients by name. The forms and places are those of the clients' own documentation in November 2026."""
