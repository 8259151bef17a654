"""The five tools as a client sees them: answers, cuts, progress, errors. Workers are real processes."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from mcp import Client
from PIL import Image

from deepseek_ocr_mcp.edges.mcp.server import build_mcp
from support import Signs, Watch, alive, as_base64, client, echo, facts, png, running, said, tiff

pytestmark = pytest.mark.anyio

TOOLS = {"ocr_image", "ocr_to_files", "gpu_status", "gpu_offload", "gpu_release"}
PAGE = as_base64(png())


# -- the contract


async def test_there_are_five_tools_and_each_teaches_its_use() -> None:
    async with client() as mcp:
        tools = {tool.name: tool for tool in (await mcp.list_tools()).tools}
    assert set(tools) == TOOLS
    for tool in tools.values():
        assert tool.title
        assert len(tool.description or "") > 80
        assert tool.output_schema
        schemas = json.dumps([tool.input_schema, tool.output_schema])
        assert "additionalProperties" not in schemas, "google-genai 2.34 cannot convert it"
        assert tool.annotations is not None
        hints = tool.annotations.model_dump()
        assert all(hints[name] is not None for name in hints)
    described = tools["ocr_image"].input_schema["properties"]
    for tool in tools.values():
        for name, argument in tool.input_schema["properties"].items():
            assert argument.get("description") or described[name]["description"], (tool.name, name)


async def test_reading_changes_nothing_and_says_so() -> None:
    """Clients run such a tool in parallel, and need not ask for it."""
    async with client() as mcp:
        tools = {tool.name: tool.annotations for tool in (await mcp.list_tools()).tools}
    changes = {name: not hints.read_only_hint for name, hints in tools.items() if hints}
    assert changes == {
        "ocr_image": False, "ocr_to_files": True, "gpu_status": False, "gpu_offload": True, "gpu_release": True,
    }  # fmt: skip
    assert {name for name, hints in tools.items() if hints and hints.destructive_hint} == {
        "ocr_to_files",
        "gpu_release",
    }


async def test_the_list_of_tools_is_short_and_says_nothing_twice() -> None:
    async with client() as mcp:
        tools = (await mcp.list_tools()).model_dump(mode="json", by_alias=True, exclude_none=True)["tools"]
        seen = len(mcp.instructions or "")
    seen += sum(len(json.dumps([tool[part] for tool in tools])) for part in ("name", "description", "inputSchema"))
    assert seen <= 3600, "what a model reads before it has done anything"
    assert len(json.dumps(tools)) < 13_000
    written = json.dumps([tool["outputSchema"] for tool in tools])
    assert '"null"' not in written
    assert '"title"' not in written


async def test_the_arguments_are_those_of_the_contract() -> None:
    async with client() as mcp:
        schemas = {tool.name: tool.input_schema for tool in (await mcp.list_tools()).tools}
    image, files = schemas["ocr_image"], schemas["ocr_to_files"]
    assert image["required"] == ["image"]
    assert files["required"] == ["image", "save_to"]
    assert list(image["properties"]) == [
        "image", "mode", "find_term", "custom_prompt", "pages", "resolution", "text_layer", "boxes", "annotate",
        "max_chars",
    ]  # fmt: skip
    assert list(files["properties"]) == [
        "image", "save_to", "overwrite", "upright", "mode", "pages", "custom_prompt", "resolution", "text_layer",
    ]  # fmt: skip
    defaults = {name: each["default"] for name, each in image["properties"].items() if "default" in each}
    assert defaults == {"max_chars": 20_000}, "clients send defaults, and a mode that was sent is one that was meant"


async def test_the_list_of_modes_holds_those_of_the_engine() -> None:
    async with client("rapidocr") as mcp:
        schema = next(tool for tool in (await mcp.list_tools()).tools if tool.name == "ocr_image").input_schema
    assert schema["properties"]["mode"]["enum"] == ["document", "ocr", "free", "find"]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_both_protocol_eras_read_a_page(mode: str) -> None:
    async with client(mode=mode) as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE})
    answer = facts(result)
    assert said(result) == answer["text"] == echo()
    assert answer["pages"] == [{"page": 1, "width": 40, "height": 20, "text": echo(), "finish": "stop"}]
    assert result.model_dump_json().count(echo()) == 2, "once for those who read content, once for the others"
    assert (answer["page_count"], answer["mode"], answer["engine"], answer["model"], answer["device"]) == (
        1, "document", "Echo", "echo", "cpu",
    )  # fmt: skip
    assert answer["truncated"] is False
    assert set(answer["timing"]) == {"queued_s", "load_s", "infer_s", "total_s"}


async def test_the_first_call_tells_its_loading_time_apart() -> None:
    async with client() as mcp:
        first = facts(await mcp.call_tool("ocr_image", {"image": PAGE}))["timing"]
        second = facts(await mcp.call_tool("ocr_image", {"image": PAGE}))["timing"]
    assert first["load_s"] > 0
    assert second["load_s"] == 0


async def test_boxes_come_when_asked_for() -> None:
    async with client() as mcp:
        page = facts(await mcp.call_tool("ocr_image", {"image": PAGE, "boxes": True}))["pages"][0]
    assert page["blocks"] == [{"text": echo(), "box": [0, 0, 40, 20], "score": 1.0}]


async def test_annotate_returns_the_page_with_its_boxes_drawn() -> None:
    async with client() as mcp:
        result = await mcp.call_tool("ocr_image", {"image": as_base64(png(200, 100)), "annotate": True})
    image = next(block for block in result.content if block.type == "image")
    drawn = Image.open(io.BytesIO(base64.b64decode(image.data)))
    assert drawn.size == (200, 100)
    assert len(drawn.convert("RGB").getcolors(20_000)) > 1
    assert "blocks" not in facts(result)["pages"][0]


async def test_a_blank_page_is_an_empty_text_and_says_so() -> None:
    async with client("Blank") as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE})
    assert facts(result)["text"] == ""
    assert said(result) == "Page 1: blank, no text was found."


async def test_what_an_engine_remarks_about_a_page_is_told() -> None:
    async with client("Remarking") as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE})
    assert facts(result)["text"] == "what was read"
    assert said(result).endswith("Page 1: The rest is in a script of its own.")


# -- pages and cuts


async def test_all_pages_are_read_in_order() -> None:
    async with client() as mcp:
        answer = facts(await mcp.call_tool("ocr_image", {"image": as_base64(tiff(11, 12, 13))}))
    assert [page["height"] for page in answer["pages"]] == [11, 12, 13]
    assert answer["text"] == "\n\n".join(page["text"] for page in answer["pages"])


async def test_a_range_reads_these_pages_only() -> None:
    async with client() as mcp:
        answer = facts(await mcp.call_tool("ocr_image", {"image": as_base64(tiff(11, 12, 13, 14)), "pages": "2,4-9"}))
    assert [page["page"] for page in answer["pages"]] == [2, 4]
    assert answer["truncated"] is False


async def test_following_next_pages_reads_every_page_once() -> None:
    document = as_base64(tiff(*range(11, 18)))
    seen: list[int] = []
    async with client("Verbose") as mcp:
        pages = ""
        for _ in range(20):
            result = await mcp.call_tool("ocr_image", {"image": document, "pages": pages, "max_chars": 450})
            answer = facts(result)
            assert len(answer["text"]) <= 450
            seen += [page["page"] for page in answer["pages"]]
            pages = answer.get("next_pages", "")
            if not pages:
                break
            assert answer["truncated"] is True
            assert f'pages="{pages}"' in said(result)
    assert seen == [1, 2, 3, 4, 5, 6, 7]


async def test_a_page_longer_than_the_limit_is_cut_at_a_line_and_says_how_to_get_the_rest() -> None:
    async with client("Verbose") as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE, "max_chars": 55})
        answer = facts(result)
        assert answer["text"] == "\n".join(f"line {i:04}" for i in range(5))
        assert answer["truncated"] is True
        assert "max_chars=199" in said(result)
        whole = facts(await mcp.call_tool("ocr_image", {"image": PAGE, "max_chars": 199}))
        assert len(whole["text"]) == 199
        assert whole["truncated"] is False


async def test_no_limit_means_no_limit() -> None:
    async with client("Verbose") as mcp:
        answer = facts(await mcp.call_tool("ocr_image", {"image": as_base64(tiff(*range(11, 31))), "max_chars": 0}))
    assert len(answer["pages"]) == 20


# -- progress


async def test_progress_strictly_increases_and_names_the_page() -> None:
    seen: list[tuple[float, float | None, str | None]] = []

    async def note(done: float, total: float | None, message: str | None) -> None:
        seen.append((done, total, message))

    async with client() as mcp:
        await mcp.call_tool("ocr_image", {"image": as_base64(tiff(11, 12, 13))}, progress_callback=note)
    steps = [done for done, _, _ in seen]
    assert steps == sorted(set(steps))
    assert {total for _, total, _ in seen} == {3.0}
    messages = [message or "" for _, _, message in seen]
    assert any("page 1 of 3" in message for message in messages)
    assert any("loading" in message for message in messages)


# -- files


async def test_a_path_and_a_file_uri_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a page with spaces.png"
    file.write_bytes(png())
    async with client() as mcp:
        for image in (str(file), file.as_uri()):
            assert facts(await mcp.call_tool("ocr_image", {"image": image}))["text"] == echo()


@pytest.mark.parametrize("suffix", [".md", ".txt", ".json"])
async def test_a_file_gets_the_whole_text_and_the_answer_none_of_it(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"out{suffix}"
    document = as_base64(tiff(*range(11, 131)))
    async with client("Verbose") as mcp:
        result = await mcp.call_tool("ocr_to_files", {"image": document, "save_to": str(target)})
    answer = facts(result)
    assert {name: answer[name] for name in ("saved_to", "finished", "pages_read", "page_count", "chars")} == {
        "saved_to": str(target), "finished": True, "pages_read": 120, "page_count": 120, "chars": 120 * 199,
    }  # fmt: skip
    assert "line 0001" not in result.model_dump_json()
    text = target.read_text()
    if suffix == ".json":
        saved = json.loads(text)
        assert [page["page"] for page in saved["pages"]] == list(range(1, 121))
        text = saved["text"]
    assert text.count("line 0019") == 120
    assert str(target) in said(result)


async def test_figures_are_cut_out_beside_a_saved_text_and_linked(tmp_path: Path) -> None:
    target = tmp_path / "my report.md"
    async with client("Drawing") as mcp:
        facts(await mcp.call_tool("ocr_to_files", {"image": as_base64(tiff(20, 30)), "save_to": str(target)}))
    text = target.read_text()
    assert "![Figure 1](my%20report-figures/page-1-figure-1.png)" in text
    assert "<!--" not in text
    sizes = {}
    for file in (tmp_path / "my report-figures").iterdir():
        with Image.open(file) as figure:
            sizes[file.name] = figure.size
    assert sizes == {"page-1-figure-1.png": (20, 10), "page-2-figure-1.png": (20, 15)}


async def test_what_the_model_wrote_is_in_saved_json_and_nowhere_else(tmp_path: Path) -> None:
    target = tmp_path / "raw.json"
    async with client("Drawing") as mcp:
        answer = facts(await mcp.call_tool("ocr_image", {"image": PAGE, "boxes": True}))
        facts(await mcp.call_tool("ocr_to_files", {"image": PAGE, "save_to": str(target)}))
    assert "raw" not in answer["pages"][0]
    assert json.loads(target.read_text())["pages"][0]["raw"].startswith("<|ref|>image")


async def test_an_existing_file_is_never_replaced_unless_asked(tmp_path: Path) -> None:
    target = tmp_path / "mine.md"
    target.write_text("precious")
    async with client() as mcp:
        refused = await mcp.call_tool("ocr_to_files", {"image": PAGE, "save_to": str(target)})
        assert refused.is_error
        assert "overwrite" in said(refused)
        assert target.read_text() == "precious"
        facts(await mcp.call_tool("ocr_to_files", {"image": PAGE, "save_to": str(target), "overwrite": True}))
    assert target.read_text() == echo() + "\n"


async def test_nothing_is_written_outside_the_allowed_folders(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    async with client(ocr_allowed_dirs=str(inside)) as mcp:
        refused = await mcp.call_tool("ocr_to_files", {"image": PAGE, "save_to": str(outside / "a.md")})
        assert refused.is_error
        facts(await mcp.call_tool("ocr_to_files", {"image": PAGE, "save_to": str(inside / "a.md")}))
    assert list(outside.iterdir()) == []


async def test_over_http_no_path_is_readable_until_a_folder_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    image = str(tmp_path / "a.png")
    async with client(local=False) as mcp:
        refused = await mcp.call_tool("ocr_image", {"image": image})
        assert refused.is_error
        assert "OCR_ALLOWED_DIRS" in said(refused)
    async with client(local=False, ocr_allowed_dirs=str(tmp_path)) as mcp:
        assert facts(await mcp.call_tool("ocr_image", {"image": image}))["text"] == echo()


# -- errors: each says what and what to do, and the server goes on


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image": "/no/such/file.png"}, ["/no/such/file.png"]),
        ({"image": ""}, []),
        ({"image": "scan.png"}, ["absolute"]),
        ({"image": "https://example.org/a.png"}, ["OCR_ALLOW_URLS"]),
        ({"image": as_base64(b"this is a text, not a picture, however long it may be" * 3)}, []),
        ({"image": PAGE, "mode": "translate"}, ["'translate'", "document"]),
        ({"image": PAGE, "mode": "find"}, ["find_term"]),
        ({"image": PAGE, "mode": "freeform"}, ["custom_prompt"]),
        ({"image": PAGE, "pages": "0"}, ["1-3,7"]),
        ({"image": PAGE, "pages": "2"}, ["beyond the end", "1 page"]),
        ({"image": PAGE, "resolution": "8k"}, ["gundam"]),
        ({"image": PAGE, "imgae": "x", "dpi": 3}, ["'dpi'", "'imgae'", "max_chars"]),
        ({"image": PAGE, "force_ocr": True}, ['text_layer="ignore"']),
        ({"image": PAGE, "skip_ocr": True}, ['text_layer="only"']),
        ({"image": '{ "path": "/no/such/file.png" }'}, ["There is no", "/no/such/file.png"]),
        ({"image": PAGE, "max_chars": -1}, ["max_chars"]),
        ({"image": ["a", "b"]}, ["image"]),
        ({}, ["image"]),
    ],
)
async def test_a_mistake_is_an_error_that_says_what_to_do(arguments: dict[str, Any], words: list[str]) -> None:
    async with client() as mcp:
        result = await mcp.call_tool("ocr_image", arguments)
        assert result.is_error
        for word in words:
            assert word in said(result)
        assert "Traceback" not in said(result)
        assert "pydantic" not in said(result)
        assert facts(await mcp.call_tool("ocr_image", {"image": PAGE}))["text"] == echo()


async def test_an_error_does_not_repeat_the_image() -> None:
    async with client() as mcp:
        for arguments in (
            {"image": PAGE, "max_chars": PAGE * 50},
            {"image": "A" * 5000 + "!"},
            {PAGE * 9: 1, "image": ""},
        ):
            result = await mcp.call_tool("ocr_image", arguments)
            assert result.is_error
            assert len(said(result)) < 600


async def test_tools_without_arguments_refuse_any() -> None:
    async with client() as mcp:
        for tool in ("gpu_status", "gpu_offload"):
            result = await mcp.call_tool(tool, {"force": True})
            assert result.is_error
            assert "takes none" in said(result)


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("Dying", ["exit status 7", "the engine's last words"]),
        ("OomKilled", ["SIGKILL", "memory"]),
        ("Unloadable", ["The weights are not here.", "Fetch them."]),
        ("DyingInLoad", ["exit status 9", "no memory for the weights"]),
        ("Refusing", ["Not this one.", "Another."]),
        ("Broken", ["ValueError", "bug"]),
        ("NoSuchEngine", ["NoSuchEngine", "OCR_ENGINE"]),
        ("Lying", ["no page", "OCR_ENGINE=auto"]),
    ],
)
async def test_an_engine_that_fails_is_an_error_and_the_server_goes_on(engine: str, words: list[str]) -> None:
    async with client(engine) as mcp:
        for _ in range(2):
            result = await mcp.call_tool("ocr_image", {"image": PAGE})
            assert result.is_error
            for word in words:
                assert word in said(result)
        assert facts(await mcp.call_tool("gpu_status", {}))["queue"] == 0


async def test_a_hung_page_is_stopped_and_the_next_call_gets_a_fresh_worker() -> None:
    async with client("Hanging", ocr_page_timeout=0.3) as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE})
        assert result.is_error
        assert "0.3 s" in said(result)
        status = facts(await mcp.call_tool("gpu_status", {}))
        assert (status["state"], status["worker_restarts"]) == ("unloaded", 1)


async def test_a_crash_is_survived_by_reading_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTS", str(tmp_path))
    async with client("DyingOnce") as mcp:
        assert facts(await mcp.call_tool("ocr_image", {"image": PAGE}))["text"] == echo()
        assert facts(await mcp.call_tool("gpu_status", {}))["worker_restarts"] == 1


async def test_a_page_that_kills_the_worker_costs_that_page_and_no_other() -> None:
    document = as_base64(tiff(11, 33, 12))  # the second page kills
    async with client("OnePageKills") as mcp:
        results: dict[str, Any] = {}

        async def call(name: str, image: str) -> None:
            results[name] = await mcp.call_tool("ocr_image", {"image": image})

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, "bad", document)
            for name in "abc":
                tasks.start_soon(call, name, PAGE)
    bad = results.pop("bad")
    assert [page["finish"] for page in facts(bad)["pages"]] == ["stop", "failed", "stop"]
    (note,) = facts(bad)["notes"]
    assert (note["code"], note["pages"]) == ("page_failed", "2")
    assert note["text"] in said(bad), "a client that shows its model the content alone must see the note"
    assert {facts(result)["text"] for result in results.values()} == {echo()}


# -- modes


async def test_a_mode_that_the_engine_cannot_do_names_one_that_can() -> None:
    async with client("rapidocr") as mcp:
        for mode, more in (("figure", {}), ("describe", {}), ("freeform", {"custom_prompt": "What is it?"})):
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": mode, **more})
            assert result.is_error
            assert "OCR_ENGINE=deepseek" in said(result)
        assert facts(await mcp.call_tool("gpu_status", {}))["state"] == "unloaded"  # nothing was loaded for it


# -- status, offload, release


async def test_status_answers_while_a_page_is_read() -> None:
    watch = Watch()
    async with client("Patient", watch=watch) as mcp, anyio.create_task_group() as tasks:
        tasks.start_soon(mcp.call_tool, "ocr_image", {"image": PAGE})
        await watch.until(lambda: watch.moves == ["loading"])
        status = facts(await mcp.call_tool("gpu_status", {}))
        assert (status["state"], status["queue"]) == ("host", 1)
        assert "idle_s" not in status
        assert alive(status["worker_pid"])
        tasks.cancel_scope.cancel()


async def test_status_tells_what_reads_and_why() -> None:
    async with client("rapidocr") as mcp:
        status = facts(await mcp.call_tool("gpu_status", {}))
    assert status["engine"] == "rapidocr"
    assert status["engine_reason"] == "OCR_ENGINE=rapidocr."
    assert status["modes"] == ["document", "ocr", "free", "find"]
    assert status["state"] == "unloaded"


async def test_offload_without_a_gpu_says_plainly_what_it_did() -> None:
    async with client() as mcp:
        facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
        result = await mcp.call_tool("gpu_offload", {})
    assert facts(result)["from"] == facts(result)["to"] == "host"
    assert "runs on the CPU" in said(result)


async def test_release_ends_the_worker_and_the_next_call_starts_one() -> None:
    async with client() as mcp:
        facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
        pid = facts(await mcp.call_tool("gpu_status", {}))["worker_pid"]
        assert alive(pid)
        released = await mcp.call_tool("gpu_release", {})
        assert (facts(released)["from"], facts(released)["to"]) == ("host", "unloaded")
        assert "MiB of host memory" in said(released)
        assert not alive(pid)
        assert facts(await mcp.call_tool("ocr_image", {"image": PAGE}))["text"] == echo()


async def test_release_says_busy_with_the_remedy_and_force_stops_the_page(signs: Signs) -> None:
    async with client("Patient", ocr_busy_wait=0.1) as mcp, anyio.create_task_group() as tasks:
        stopped: list[Any] = []

        async def victim() -> None:
            stopped.append(await mcp.call_tool("ocr_image", {"image": PAGE}))

        tasks.start_soon(victim)
        assert await anyio.to_thread.run_sync(signs.next) == "reading"
        busy = await mcp.call_tool("gpu_release", {})
        assert busy.is_error
        assert "force=true" in said(busy)
        assert facts(await mcp.call_tool("gpu_release", {"force": True}))["to"] == "unloaded"
    assert stopped[0].is_error
    assert "released by force" in said(stopped[0])


async def test_an_idle_worker_exits_by_itself() -> None:
    watch = Watch()
    async with client(gpu_idle_timeout=0.05, watch=watch) as mcp:
        facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
        await watch.until(lambda: watch.moves[-1] == "releasing")
        assert facts(await mcp.call_tool("gpu_status", {}))["state"] == "unloaded"


async def test_two_servers_over_one_service_share_its_worker() -> None:
    async with running() as service:
        for _ in range(2):
            async with Client(build_mcp(service, local=True)) as mcp:
                facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
        assert (await service.status()).served == 2


async def test_files_are_written_by_the_tool_for_files_alone(tmp_path: Path) -> None:
    async with client() as mcp:
        refused = await mcp.call_tool("ocr_image", {"image": PAGE, "save_to": str(tmp_path / "a.md")})
    assert refused.is_error
    assert "call ocr_to_files with image, save_to and overwrite" in said(refused)
    assert os.listdir(tmp_path) == []
