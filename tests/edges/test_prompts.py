"""The prompts in a client's menu: what they say makes a call that works, and their arguments are offered values."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.types import PromptReference, ResourceTemplateReference

from support import client, facts, png

pytestmark = pytest.mark.anyio

PROMPTS = {"digitise_document", "table_to_csv", "find_on_invoice", "transcribe_handwriting", "describe_figure"}
FILLED: dict[str, dict[str, str]] = {
    "digitise_document": {"pages": "1-3", "save_to": "/tmp/out.md"},
    "table_to_csv": {"pages": "2", "table": "Balance"},
    "find_on_invoice": {"field": "due date"},
    "transcribe_handwriting": {"language": "German", "pages": "last"},
    "describe_figure": {"question": "Which bar is the highest?"},
}


async def text_of(mcp: Client, name: str, **arguments: str) -> str:
    [message] = (await mcp.get_prompt(name, arguments)).messages
    assert message.role == "user"
    text: str = message.content.text  # type: ignore[union-attr]
    return text


def calls(text: str) -> list[dict[str, Any]]:
    """The arguments of each call that a prompt asks for."""
    found = []
    for call in re.findall(
        r"call (?:ocr_image|ocr_to_files) with (.*?)\.(?= |$)(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", text
    ):
        pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|true|false)', call)
        found.append({name: json.loads(value) for name, value in pairs})
    return found


async def test_five_prompts_are_found_in_the_menu() -> None:
    async with client() as mcp:
        prompts = {prompt.name: prompt for prompt in (await mcp.list_prompts()).prompts}
    assert set(prompts) == PROMPTS
    for prompt in prompts.values():
        assert prompt.title
        assert len(prompt.description or "") > 40
        arguments = {argument.name: argument for argument in prompt.arguments or ()}
        assert arguments["file"].required
        assert all(argument.description for argument in arguments.values())
        assert set(FILLED[prompt.name]) <= set(arguments)


@pytest.mark.parametrize("name", sorted(PROMPTS))
async def test_a_prompt_asks_for_calls_that_the_tool_takes(name: str, tmp_path: Path) -> None:
    file = tmp_path / 'a "quoted" name.png'
    file.write_bytes(png())
    required = {"field": "due date"} if name == "find_on_invoice" else {}
    async with client() as mcp:
        schemas = {tool.name: tool.input_schema["properties"] for tool in (await mcp.list_tools()).tools}
        for arguments in (required, FILLED[name]):
            asked = calls(await text_of(mcp, name, file=str(file), **arguments))
            assert asked
            for call in asked:
                assert set(call) <= set(schemas["ocr_to_files" if "save_to" in call else "ocr_image"])
                assert call["image"] == str(file)
                call.pop("save_to", None), call.pop("pages", None)
                facts(await mcp.call_tool("ocr_image", call))


async def test_what_was_filled_in_is_in_the_prompt() -> None:
    async with client() as mcp:
        for name, arguments in FILLED.items():
            text = await text_of(mcp, name, file="/a.pdf", **arguments)
            for value in arguments.values():
                assert value in text, name


async def test_an_engine_that_sees_no_pictures_is_not_asked_to() -> None:
    async with client("rapidocr") as mcp:
        text = await text_of(mcp, "describe_figure", file="/a.png", question="What is it?")
        assert {call["mode"] for call in calls(text)} == {"ocr"}
        assert "was not seen" in text
    async with client("Echo") as mcp:
        modes = {call["mode"] for call in calls(await text_of(mcp, "describe_figure", file="/a.png", question="What?"))}
        assert modes == {"figure", "describe", "freeform"}


async def test_a_prompt_without_its_file_is_an_error_that_names_it() -> None:
    async with client() as mcp:
        for name, word in (
            ("digitise_document", "file"),
            ("find_on_invoice", "field"),
            ("no_such_prompt", "table_to_csv"),
        ):
            with pytest.raises(MCPError, match=word) as caught:
                await mcp.get_prompt(name, {"file": "/a.png"} if word == "field" else {})
            assert caught.value.error.code == -32602


# -- completion


async def offered(mcp: Client, argument: str, value: str, prompt: str = "find_on_invoice") -> list[str]:
    result = await mcp.complete(PromptReference(type="ref/prompt", name=prompt), {"name": argument, "value": value})
    return result.completion.values


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_fields_and_files_are_completed(mode: str, tmp_path: Path) -> None:
    folder = tmp_path / "invoices"
    folder.mkdir()
    for name in ("2.png", "10.png", "notes.txt"):
        (folder / name).write_bytes(png())
    async with client(mode=mode) as mcp:
        assert await offered(mcp, "field", "inv") == ["invoice number", "invoice date"]
        assert len(await offered(mcp, "field", "")) > 8
        assert await offered(mcp, "pages", "l", "digitise_document") == ["last"]
        assert await offered(mcp, "file", f"{folder}/") == [f"{folder}/2.png", f"{folder}/10.png"]
        assert await offered(mcp, "file", f"{tmp_path}/inv") == [f"{folder}/"]
        assert await offered(mcp, "no such argument", "x") == []


async def test_no_more_than_a_hundred_values_are_offered(tmp_path: Path) -> None:
    for number in range(150):
        (tmp_path / f"{number}.png").touch()
    async with client() as mcp:
        assert len(await offered(mcp, "file", f"{tmp_path}/")) == 100


async def test_paths_are_offered_from_allowed_folders_only_and_results_never(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "a.png").touch()
    (tmp_path / "secret.png").touch()
    async with client(local=False, ocr_allowed_dirs=str(allowed)) as mcp:
        assert await offered(mcp, "file", f"{allowed}/") == [f"{allowed}/a.png"]
        assert await offered(mcp, "file", f"{tmp_path}/") == [f"{allowed}/"]
        assert await offered(mcp, "file", f"{allowed}/../") == []
        assert await offered(mcp, "file", "/etc/") == []
        template = ResourceTemplateReference(type="ref/resource", uri="ocr://results/{id}")
        assert (await mcp.complete(template, {"name": "id", "value": ""})).completion.values == []
    async with client(local=False) as mcp:
        assert await offered(mcp, "file", f"{tmp_path}/") == []
