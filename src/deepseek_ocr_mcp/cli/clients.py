"""`client-config`: prints the configuration that an MCP client needs to start this server."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

__all__ = ["CLIENTS", "run_client_config"]

CLIENTS: Final = ("claude-desktop", "claude-code", "cursor", "vscode", "codex")
SERVER_NAME: Final = "deepseek-ocr"


def run_client_config(arguments: argparse.Namespace) -> int:
    print(_for_server(arguments.client, arguments.url) if arguments.url else _for_program(arguments.client))
    return 0


def _for_program(client: str) -> str:
    """The server as a program that the client starts."""
    command, *rest = _own_command()
    entry: dict[str, Any] = {"command": command, "args": rest}
    match client:
        case "vscode":
            return json.dumps({"servers": {SERVER_NAME: {"type": "stdio", **entry}}}, indent=2)
        case "codex":
            return f"[mcp_servers.{SERVER_NAME}]\ncommand = {json.dumps(command)}\nargs = {json.dumps(rest)}"
        case "claude-code":
            return f"claude mcp add {SERVER_NAME} -- {_for_shell(command, *rest)}"
        case _:
            return json.dumps({"mcpServers": {SERVER_NAME: entry}}, indent=2)


def _for_server(client: str, url: str) -> str:
    """The server as an address. The token stays out of the file where the client has another place for it."""
    match client:
        case "vscode":
            token = {"type": "promptString", "id": "ocr-token", "description": "OCR_AUTH_TOKEN", "password": True}
            entry = {"type": "http", "url": url, "headers": {"Authorization": "Bearer ${input:ocr-token}"}}
            return json.dumps({"servers": {SERVER_NAME: entry}, "inputs": [token]}, indent=2)
        case "codex":
            return f'[mcp_servers.{SERVER_NAME}]\nurl = {json.dumps(url)}\nbearer_token_env_var = "OCR_AUTH_TOKEN"'
        case "claude-code":
            header = '"Authorization: Bearer $OCR_AUTH_TOKEN"'  # the shell puts it in
            return f"claude mcp add --transport http {SERVER_NAME} {_for_shell(url)} --header {header}"
        case "cursor":
            entry = {"url": url, "headers": {"Authorization": "Bearer ${env:OCR_AUTH_TOKEN}"}}
            return json.dumps({"mcpServers": {SERVER_NAME: entry}}, indent=2)
        case _:  # Claude Desktop's file knows programs only: mcp-remote is one, and Node's npx brings it
            entry = {
                "command": "npx",
                "args": ["-y", "mcp-remote", url, "--header", "Authorization:${AUTH_HEADER}"],
                "env": {"AUTH_HEADER": "Bearer <OCR_AUTH_TOKEN of the server>"},
            }
            return json.dumps({"mcpServers": {SERVER_NAME: entry}}, indent=2)


def _for_shell(*words: str) -> str:
    import shlex

    return shlex.join(words)


def _own_command() -> list[str]:
    """This program as an absolute command: a desktop client has another PATH than a shell."""
    beside = Path(sys.executable).with_name("deepseek-ocr-mcp" + (".exe" if os.name == "nt" else ""))
    if beside.is_file():
        return [str(beside)]
    return [sys.executable, "-m", "deepseek_ocr_mcp"]
