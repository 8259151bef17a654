"""Pages read by endpoints, through the MCP tool, whole: a real server in front of one that behaves as vLLM's does."""

from __future__ import annotations

import io
import json
import os
import ssl
import subprocess
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from fake_vllm import FakeVllm, fake_vllm
from mcp import Client
from PIL import Image

from deepseek_ocr_mcp.engines.vision_models import model_named
from deepseek_ocr_mcp.errors import BadRequest
from deepseek_ocr_mcp.modes import MODES
from forked import run_program
from support import BOUND_S, Watch, as_base64, client, echo, facts, http_server, png, said, tiff, written

pytestmark = pytest.mark.anyio

PAGE = as_base64(png())
NEEDED = {"find": {"find_term": "page"}, "freeform": {"custom_prompt": "What is it?"}}


def remote(*endpoints: FakeVllm, **settings: Any) -> Any:
    """A client of a server that reads with these; no idle policy unless a test wants one."""
    urls = ",".join(endpoint.url for endpoint in endpoints)
    quiet = {"gpu_offload_after": -1, "gpu_idle_timeout": -1}
    return client("openai", **{"ocr_remote_url": urls, **quiet, **settings})


async def read(mcp: Client, page: str = PAGE, **arguments: Any) -> dict[str, Any]:
    return facts(await mcp.call_tool("ocr_image", {"image": page, "mode": "free", **arguments}))


async def status(mcp: Client) -> dict[str, Any]:
    return facts(await mcp.call_tool("gpu_status", {}))


async def until(vllm: FakeVllm, condition: Callable[[], bool]) -> None:
    """Wait for a fact about the endpoint, within a bound."""
    await anyio.to_thread.run_sync(vllm.until, condition, BOUND_S)


async def test_a_page_is_read_as_vllm_wants_it_asked() -> None:
    with fake_vllm() as vllm:
        async with remote(vllm) as mcp:
            answer = await read(mcp, mode="document", boxes=True)
    assert answer["text"] == echo()
    assert answer["pages"][0]["blocks"] == [{"label": "title", "text": echo(), "box": [0, 0, 40, 20]}]
    assert (answer["engine"], answer["model"]) == ("openai", "deepseek-ai/DeepSeek-OCR")
    assert answer["device"] == vllm.url
    (request,) = vllm.requests
    assert request["messages"][0]["content"][1]["text"] == "<|grounding|>Convert the document to markdown."
    assert request["temperature"] == 0
    assert request["skip_special_tokens"] is False
    ban = {"ngram_size": 30, "window_size": 90, "whitelist_token_ids": [128821, 128822]}
    assert request["vllm_xargs"] == ban


async def test_every_mode_asks_deepseek_with_its_own_prompt_and_others_in_words() -> None:
    with fake_vllm() as deepseek, fake_vllm("Qwen/Qwen3-VL-8B", context=65536) as other:
        for vllm, in_words in ((deepseek, False), (other, True)):
            async with remote(vllm) as mcp:
                for mode in MODES:
                    assert echo() in json.dumps(await read(mcp, mode=mode, **NEEDED.get(mode, {})))
            asked = [request["messages"][0]["content"][1]["text"] for request in vllm.requests]
            assert asked == [mode.question("page", "What is it?", in_words=in_words) for mode in MODES.values()]
    assert all("vllm_xargs" not in request and request["max_tokens"] == 8192 for request in other.requests)
    assert all("max_tokens" not in request for request in deepseek.requests)


async def test_prompts_can_be_chosen_and_a_served_name_does_not_hide_the_model() -> None:
    with fake_vllm("ocr", root="deepseek-ai/DeepSeek-OCR-2") as alias, fake_vllm("mine") as unknown:
        async with remote(alias) as mcp:
            await read(mcp)
        async with remote(unknown, ocr_remote_prompts="deepseek") as mcp:
            await read(mcp)
        async with remote(alias, ocr_remote_prompts="words") as mcp:
            await read(mcp)
    asked = [one["messages"][0]["content"][1]["text"] for one in (*alias.requests, *unknown.requests)]
    assert asked == ["Free OCR.", MODES["free"].question(in_words=True), "Free OCR."]


async def test_an_answer_to_a_prompt_that_the_models_publisher_does_not_name_says_so_at_every_edge(
    tmp_path: Path,
) -> None:
    (tmp_path / "page.png").write_bytes(png())
    remark = model_named("DeepSeek-OCR-2").remarks["ocr"]
    expected = [{"code": "not_read", "text": remark, "pages": "1"}]
    with fake_vllm("ocr", root="deepseek-ai/DeepSeek-OCR-2") as vllm, fake_vllm() as first:
        async with remote(vllm, ocr_cache="on") as mcp:
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "ocr"})
            assert facts(result)["notes"] == expected
            assert remark in said(result)
            again = await read(mcp, mode="ocr")
            assert (again["cached"], again["notes"]) == (True, expected)
            assert not (await read(mcp, mode="document")).get("notes")
        async with remote(first) as mcp:
            assert not (await read(mcp, mode="ocr")).get("notes"), "its publisher names the prompt"
        environment = {"OCR_REMOTE_URL": vllm.url}
        with http_server("openai", **environment) as server:
            async with httpx2.AsyncClient(timeout=BOUND_S) as http:
                files = {"file": ("page.png", png(), "image/png")}
                answer = await http.post(f"{server.root}/ocr", files=files, data={"mode": "ocr"})
        assert answer.json()["notes"] == expected
        command = partial(run_program, ["ocr", str(tmp_path / "page.png"), "--mode", "ocr"], text=True, timeout=BOUND_S)
        done = await anyio.to_thread.run_sync(
            partial(command, env={**os.environ, "OCR_ENGINE": "openai", **environment})
        )
        assert remark in done.stderr
        assert done.returncode == 0
        assert echo() in done.stdout


async def test_a_page_is_sent_exactly_or_where_that_is_large_as_jpeg_and_shrunk_where_it_is_asked_for() -> None:
    noise = Image.effect_noise((1500, 1000), 90).convert("RGB")
    out = io.BytesIO()
    noise.save(out, "PNG")
    with fake_vllm() as vllm:
        async with remote(vllm) as mcp:
            await read(mcp)
            await read(mcp, as_base64(out.getvalue()))
            await read(mcp, as_base64(out.getvalue()), resolution="small")
    sent = [one["messages"][0]["content"][0]["image_url"]["url"].split(";")[0] for one in vllm.requests]
    assert sent == ["data:image/png", "data:image/jpeg", "data:image/png"]
    assert vllm.read[1].startswith("1500x1000 ")
    assert vllm.read[2].startswith("640x427 ")


async def test_many_pages_of_a_document_are_under_way_at_once_and_each_is_there_once() -> None:
    heights = range(20, 60)
    document = as_base64(tiff(*heights))
    with fake_vllm(seconds=0.3) as one, fake_vllm(seconds=0.3) as two:
        async with remote(one, two, ocr_remote_concurrency=8) as mcp:
            answer = await read(mcp, document)
            served = [endpoint["served"] for endpoint in (await status(mcp))["endpoints"]]
    assert [page["text"] for page in answer["pages"]] == [echo(40, height) for height in heights]
    assert len(one.requests) + len(two.requests) == len(heights) == sum(served)
    assert one.most_running > 2
    assert min(served) > 5


async def test_the_status_shows_each_endpoint_and_neither_key_nor_password() -> None:
    with fake_vllm(key="sesame-street") as vllm, fake_vllm() as other:
        hidden = f"http://user:pass%40word@127.0.0.1:{other.port}"
        async with remote(vllm, ocr_remote_url=f"{vllm.url},{hidden}", ocr_remote_key="sesame-street") as mcp:
            await read(mcp)
            told = await status(mcp)
    first, second = told["endpoints"]
    known = {"url": vllm.url, "model": vllm.model, "state": "ready", "in_flight": 0, "served": 1, "failures": 0}
    assert first.items() >= known.items()
    assert second["url"] == other.url
    assert told["model"] == vllm.model
    assert told["engine_reason"] == "OCR_ENGINE=openai."
    assert "sesame" not in json.dumps(told)
    assert "word" not in json.dumps(told)


# -- what goes wrong


@pytest.mark.parametrize("fault", ["429:0", "503", "502", "reset", "break", "500", "event", "abort", "noise", "packed"])
async def test_what_fails_once_is_read_all_the_same(fault: str) -> None:
    with fake_vllm() as vllm:
        async with remote(vllm) as mcp:
            vllm.script = [fault]
            answer = await read(mcp)
            (endpoint,) = (await status(mcp))["endpoints"]
    assert answer["text"] == echo()
    assert vllm.read == [echo()]
    assert endpoint["failures"] == 1


async def test_retry_after_is_honoured_and_another_endpoint_reads_meanwhile() -> None:
    with fake_vllm() as busy, fake_vllm() as free:
        async with remote(busy, free) as mcp:
            busy.script = ["429:60"]
            for height in (20, 30, 40):
                assert (await read(mcp, as_base64(png(40, height))))["text"] == echo(40, height)
            states = [endpoint["state"] for endpoint in (await status(mcp))["endpoints"]]
    assert states == ["resting", "ready"]
    assert (len(busy.read), len(free.read)) == (0, 3)


async def test_an_endpoint_that_is_killed_and_comes_back_loses_no_page() -> None:
    heights = range(20, 50)
    with fake_vllm(seconds=0.2) as one, fake_vllm(seconds=0.2) as two:
        watch = Watch()
        async with remote(one, two, ocr_remote_concurrency=3, watch=watch) as mcp:
            answers: list[dict[str, Any]] = []

            async def ask() -> None:
                answers.append(await read(mcp, as_base64(tiff(*heights))))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await until(one, lambda: len(one.read) >= 3)
                one.stop()
                await until(two, lambda: len(two.read) >= 8)
                assert (await status(mcp))["endpoints"][0]["state"] == "out"
                one.start()
            await watch.until(lambda: watch.endpoints_back == 1)
    assert [page["text"] for page in answers[0]["pages"]] == [echo(40, height) for height in heights]
    done = Counter(one.read + two.read)
    assert set(done) == {echo(40, height) for height in heights}


async def test_an_engine_that_died_behind_a_server_that_goes_on_is_noticed() -> None:
    watch = Watch()
    with fake_vllm() as vllm, fake_vllm() as other:
        async with remote(vllm, other, watch=watch) as mcp:
            vllm.script = ["crash"]
            for height in (20, 30, 40):
                assert (await read(mcp, as_base64(png(40, height))))["text"] == echo(40, height)
            (first, _) = (await status(mcp))["endpoints"]
            assert (first["state"], first["last_error"]) == ("out", "its engine is dead")
            vllm.engine_dead = False  # somebody started it anew
            await watch.until(lambda: watch.endpoints_back == 1)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("401", "does not take the key"),
        ("404", "HTTP 404"),
        ("redirect", "Redirects are not followed"),
        ("refuse:vllm/x is not a multimodal model", "takes no pictures"),
        ("refuse:This model's maximum context length is 8192 tokens", "too large for the model"),
        ("refuse:something else", "something else"),
        ("plain", "no stream of events"),
    ],
)
async def test_an_error_says_what_is_wrong_and_what_to_do(fault: str, words: str) -> None:
    watch = Watch()
    with fake_vllm() as vllm:
        async with remote(vllm, watch=watch) as mcp:
            vllm.script = [fault] * 4
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
            assert result.is_error
            assert words in said(result)
            assert vllm.read == []
            vllm.script = []
            with anyio.fail_after(BOUND_S):  # it was taken out, and perhaps twice
                while (await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})).is_error:
                    await anyio.sleep(0.2)
            assert vllm.read == [echo()]


async def test_a_redirect_is_not_followed() -> None:
    with fake_vllm() as vllm, fake_vllm() as elsewhere:
        async with remote(vllm) as mcp:
            vllm.script = ["redirect"]
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
    assert result.is_error
    assert elsewhere.calls == []


@pytest.mark.parametrize(("bound", "words"), [("EVENT", "has no end"), ("ANSWER", "more than 1 MiB")])
async def test_an_endless_answer_is_cut_off(bound: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EVENT", "ANSWER"):
        most = 1 << (20 if name == bound else 30)
        monkeypatch.setattr(f"deepseek_ocr_mcp.lifecycle.remote.client.MAX_{name}_BYTES", most)
    with fake_vllm() as vllm:
        async with remote(vllm) as mcp:
            vllm.script = ["endless"] * 3
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
    assert result.is_error
    assert words in said(result)


async def test_a_page_that_takes_too_long_is_broken_off_there_too() -> None:
    with fake_vllm() as vllm:
        async with remote(vllm, ocr_page_timeout=3) as mcp:
            vllm.script = ["hang"]
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
            assert "was not read within 3 s" in said(result)
            assert (await read(mcp))["text"] == echo()


async def test_nobody_there_is_told_with_the_address() -> None:
    with fake_vllm() as vllm:
        vllm.stop()
        async with remote(vllm) as mcp:
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
    assert result.is_error
    assert f"{vllm.url} cannot be reached" in said(result)
    assert "correct OCR_REMOTE_URL" in said(result)


async def test_while_no_endpoint_answers_the_fallback_reads_and_says_so() -> None:
    watch = Watch()
    with fake_vllm() as vllm:
        vllm.stop()
        async with remote(vllm, ocr_fallback="rapidocr", watch=watch) as mcp:
            first = await mcp.call_tool("ocr_image", {"image": as_base64(written("Sold out")), "mode": "free"})
            many = facts(await mcp.call_tool("ocr_image", {"image": as_base64(tiff(100, 200)), "mode": "free"}))
            unable = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "describe"})
            vllm.start()
            await watch.until(lambda: watch.endpoints_back == 1)
            later = await read(mcp)
    assert (facts(first)["engine"], facts(first)["text"]) == ("rapidocr", "Sold out")
    assert vllm.url in said(first)
    assert "OCR_FALLBACK" in said(first)
    assert [page["page"] for page in many["pages"]] == [1, 2]
    assert unable.is_error
    assert (later["engine"], later["text"]) == ("openai", echo())


async def test_a_model_that_is_not_served_is_told_with_those_that_are() -> None:
    with fake_vllm() as vllm:
        async with remote(vllm, ocr_model="another") as mcp:
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
    assert "does not serve another. It serves: deepseek-ai/DeepSeek-OCR." in said(result)


async def test_a_wrong_key_is_told_and_no_key_of_another_service_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame-street")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    with fake_vllm(key="sesame-street") as vllm:
        async with remote(vllm) as mcp:
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
        assert "OCR_REMOTE_KEY" in said(result)
        async with remote(vllm, ocr_remote_key="sesame-street") as mcp:
            assert (await read(mcp))["text"] == echo()


async def test_without_an_address_the_server_does_not_start() -> None:
    with pytest.raises(BadRequest, match="OCR_REMOTE_URL"):
        async with client("openai"):
            raise AssertionError


# -- servers of every make


async def test_the_server_behind_a_gateway_can_be_named_and_is_asked_as_it_wants() -> None:
    with fake_vllm(owner="openai", context=65536) as gateway:
        for server in ("vllm", "sglang"):
            async with remote(gateway, ocr_remote_server=server) as mcp:
                assert (await read(mcp))["text"] == echo()
    vllm, sglang = gateway.requests
    assert vllm["vllm_xargs"] == sglang["custom_params"]
    assert {vllm["skip_special_tokens"], sglang["skip_special_tokens"]} == {False}
    assert all(call == "GET /v1/models" for call in gateway.calls), "other paths are the gateway's own"


async def test_sglang_without_the_flag_for_its_processor_is_asked_without_it() -> None:
    with fake_vllm(owner="sglang") as sglang:
        async with remote(sglang) as mcp:
            sglang.script = ["unfit:The server is not configured to enable custom logit processor."]
            assert (await read(mcp))["text"] == echo()
            assert (await read(mcp, as_base64(png(40, 30))))["text"] == echo(40, 30)
            assert (await status(mcp))["endpoints"][0]["failures"] == 0
    assert ["custom_params" in request for request in sglang.requests] == [True, False, False]
    assert ["custom_logit_processor" in request for request in sglang.requests] == [True, False, False]
    assert all(request["skip_special_tokens"] is False for request in sglang.requests)


async def test_a_named_server_behind_a_gateway_may_serve_a_model_that_is_not_listed() -> None:
    with fake_vllm("mine/ocr", listed=["mine/known"], owner="openai") as gateway:
        async with remote(gateway, ocr_model="mine/ocr") as mcp:
            missing = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
        async with remote(gateway, ocr_model="mine/ocr", ocr_remote_server="vllm") as mcp:
            assert (await read(mcp))["model"] == "mine/ocr"
    assert "does not serve mine/ocr. It serves: mine/known." in said(missing)
    assert "OCR_REMOTE_SERVER" in said(missing)


async def test_a_list_of_models_that_is_refused_is_no_failure_where_the_model_is_named() -> None:
    with fake_vllm(list_status=403) as vllm:
        async with remote(vllm, ocr_model=vllm.model) as mcp:
            assert (await read(mcp))["text"] == echo()
        async with remote(vllm) as mcp:
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
    assert "set OCR_MODEL" in said(result)


async def test_a_model_is_asked_for_by_the_name_that_the_endpoint_has_for_it() -> None:
    with (
        fake_vllm("deepseek-ocr:latest", owner="library") as ollama,
        fake_vllm("unused", listed=["openai/*"], owner="openai") as gateway,
    ):
        for vllm, name in ((ollama, "DeepSeek-OCR"), (gateway, "openai/gpt-6")):
            async with remote(vllm, ocr_model=name) as mcp:
                await read(mcp)
        async with remote(ollama, ocr_model="qwen3-vl") as mcp:
            missing = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
        async with remote(gateway) as mcp:
            unnamed = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
    assert [one.requests[0]["model"] for one in (ollama, gateway)] == ["deepseek-ocr:latest", "openai/gpt-6"]
    assert "ollama pull qwen3-vl" in said(missing)
    assert "fits one of these patterns" in said(unnamed)


async def test_keys_headers_and_fields_go_where_they_are_meant_for() -> None:
    with fake_vllm(key="sesame-street", seconds=0.2) as one, fake_vllm(seconds=0.2) as two:
        settings = {
            "ocr_remote_key": json.dumps({one.url: "sesame-street"}),
            "ocr_remote_headers": json.dumps({"X-Team": "ocr", two.url: {"Api-Key": "open-says-me"}}),
            "ocr_remote_fields": json.dumps({"reasoning_effort": "none", "temperature": None}),
        }
        async with remote(one, two, **settings) as mcp:
            await read(mcp, as_base64(tiff(*range(20, 30))))
    assert {headers.get("authorization") for headers in one.headers} == {"Bearer sesame-street"}
    assert {headers.get("authorization") for headers in two.headers} == {None}
    assert {headers.get("api-key") for headers in (*one.headers, *two.headers)} == {None, "open-says-me"}
    assert {headers["x-team"] for headers in (*one.headers, *two.headers)} == {"ocr"}
    for request in (*one.requests, *two.requests):
        assert request["reasoning_effort"] == "none"
        assert "temperature" not in request


async def test_a_limit_above_the_length_of_the_model_is_left_out_and_a_page_above_it_is_told() -> None:
    too_long = "Requested token count exceeds the model's maximum context length of 4096 tokens."
    with fake_vllm("gpt", owner="openai", context=65536) as vllm:
        async with remote(vllm) as mcp:
            vllm.script = [f"refuse:{too_long}"] * 2
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
            assert "too large for the model" in said(result)
            vllm.script = ["", f"refuse:{too_long}"]  # one that failed without its limit, too, leaves no trace
            for height in (20, 30, 40):
                assert (await read(mcp, as_base64(png(40, height))))["text"] == echo(40, height)
    assert ["max_tokens" in request for request in vllm.requests] == [True, False, False]


async def test_a_list_of_faults_tells_what_to_leave_out_and_else_the_caller() -> None:
    with fake_vllm("gpt", owner="openai", context=65536) as vllm:
        async with remote(vllm) as mcp:
            vllm.script = ["faults:temperature"]
            assert (await read(mcp))["text"] == echo()
            vllm.script = ["faults:messages"]
            result = await mcp.call_tool("ocr_image", {"image": as_base64(png(40, 50)), "mode": "free"})
    assert "temperature" not in vllm.requests[0]
    assert "messages: Input should be less" in said(result)
    assert "secret" not in said(result)


async def test_a_server_without_eyes_is_told_apart_from_one_that_fails() -> None:
    with fake_vllm("gpt", owner="llamacpp") as llama:
        async with remote(llama) as mcp:
            llama.script = ["fault:image input is not supported - hint: you may need to provide the mmproj"]
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
    assert "takes no pictures" in said(result)
    assert "--mmproj" in said(result)


async def test_a_document_longer_than_the_time_of_a_page_is_read_by_a_server_with_one_slot() -> None:
    heights = range(20, 32)
    with fake_vllm("gpt", owner="llamacpp", slots=1, seconds=0.3) as llama:
        async with remote(llama, ocr_page_timeout=3) as mcp:
            answer = await read(mcp, as_base64(tiff(*heights)))
    assert [page["text"] for page in answer["pages"]] == [echo(40, height) for height in heights]


async def test_a_proxy_is_used_where_one_is_named_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with fake_vllm() as vllm:
        async with remote(vllm) as mcp:
            assert (await read(mcp))["text"] == echo()
        proxy = vllm.url.removesuffix("/v1")
        async with remote(ocr_remote_url="http://nowhere.invalid/v1", ocr_remote_proxy=proxy) as mcp:
            assert (await read(mcp))["device"] == "http://nowhere.invalid/v1"
    assert "GET http://nowhere.invalid/v1/models" in vllm.calls


def _certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate that signs itself, for 127.0.0.1, and a server's side of it."""
    certificate, key = folder / "ca.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=house", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    return certificate, tls


async def test_a_certificate_of_ones_own_authority_is_trusted_when_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, tls = await anyio.to_thread.run_sync(_certificate, tmp_path)
    with fake_vllm(tls=tls) as vllm:
        async with remote(vllm) as mcp:
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
            assert "certificate" in said(result).lower()
            assert "SSL_CERT_FILE" in said(result)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with remote(vllm) as mcp:
            assert (await read(mcp))["text"] == echo()


# -- how an answer ends


async def test_a_loop_is_cut_and_the_endpoint_is_hung_up_on() -> None:
    with fake_vllm() as vllm:
        async with remote(vllm) as mcp:
            vllm.script = ["loop"]
            answer = await read(mcp)
            await until(vllm, lambda: vllm.running == 0)
    (page,) = answer["pages"]
    assert page["finish"] == "loop"
    assert page["text"].startswith(echo())
    assert page["text"].count("The same line again.") <= 2
    assert vllm.broken_off == 1


@pytest.mark.parametrize(("fault", "finish"), [("length", "length"), ("filter", "cancelled"), ("", "stop")])
async def test_the_reason_for_an_end_is_told(fault: str, finish: str) -> None:
    with fake_vllm() as vllm:
        async with remote(vllm) as mcp:
            vllm.script = [fault]
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
    assert facts(result)["pages"][0]["finish"] == finish
    assert ("content filter" in said(result)) is (finish == "cancelled")


@pytest.mark.parametrize(
    ("fault", "words"), [("end:moonlight", "'moonlight'"), ("done", "no reason"), ("fade", "no reason")]
)
async def test_an_end_that_nobody_explains_keeps_the_text_with_a_note(fault: str, words: str) -> None:
    with fake_vllm() as vllm:
        async with remote(vllm) as mcp:
            vllm.script = [fault]
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
    assert facts(result)["text"] == echo()
    assert words in said(result)


async def test_an_answer_that_fades_away_where_others_had_an_end_is_asked_for_again() -> None:
    with fake_vllm() as vllm:
        async with remote(vllm) as mcp:
            await read(mcp)
            vllm.script = ["fade"]
            result = await mcp.call_tool("ocr_image", {"image": as_base64(png(40, 30)), "mode": "free"})
    assert facts(result)["text"] == echo(40, 30)
    assert "no reason" not in said(result)
    assert len(vllm.requests) == 3


async def test_thoughts_are_not_the_text_of_a_page_however_they_come() -> None:
    with fake_vllm("Qwen/Qwen3-VL-8B-Thinking", context=65536) as vllm:
        async with remote(vllm) as mcp:
            vllm.script = ["thought:Let me look at the page."]
            assert (await read(mcp))["text"] == echo()
            vllm.script = ["text:<think>\nLet me look.\n</think>\n\nTotal 12.50"]
            assert (await read(mcp, as_base64(png(40, 30))))["text"] == "Total 12.50"


async def test_an_answer_in_words_is_freed_of_its_fence_and_nothing_found_is_an_empty_page() -> None:
    with fake_vllm("Qwen/Qwen3-VL-8B") as vllm:
        async with remote(vllm) as mcp:
            vllm.script = ["text:```markdown\n# Title\n\nText\n```", "text:NOTHING FOUND."]
            assert (await read(mcp, mode="document"))["text"] == "# Title\n\nText"
            assert (await read(mcp, mode="find", find_term="x"))["text"] == ""


async def test_boxes_survive_an_endpoint_that_drops_tags() -> None:
    with fake_vllm(owner="somebody") as vllm:
        async with remote(vllm) as mcp:
            vllm.script = ["text:title[[0, 0, 999, 500]]\n# Heading\n\ntext[[0, 500, 999, 999]]\nA line [[1]] of text."]
            (page,) = (await read(mcp, mode="document", boxes=True))["pages"]
    assert page["text"] == "# Heading\n\nA line [[1]] of text."
    assert [(block["label"], block["box"]) for block in page["blocks"]] == [
        ("title", [0, 0, 40, 11]),
        ("text", [0, 10, 40, 20]),
    ]


async def test_lines_that_unicode_would_break_are_not_broken() -> None:
    text = "a\u2028b\u0085c\x0bd \U0001f600 \u8868"
    with fake_vllm() as vllm:
        async with remote(vllm) as mcp:
            vllm.script = [f"text:{text}"]
            assert (await read(mcp))["text"] == text


async def test_a_field_that_an_endpoint_refuses_by_name_is_left_out_from_then_on() -> None:
    with fake_vllm("gpt", owner="openai", context=65536) as vllm:
        async with remote(vllm) as mcp:
            vllm.script = ["refuse:Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."]
            await read(mcp)
            await read(mcp)
            assert (await status(mcp))["endpoints"][0]["failures"] == 0
    assert ["max_tokens" in request for request in vllm.requests] == [False, False]


# -- sleep


async def test_offload_release_and_the_next_page_move_vllm_as_its_documents_say() -> None:
    with fake_vllm() as vllm:
        async with remote(vllm) as mcp:
            await read(mcp)
            moved = facts(await mcp.call_tool("gpu_offload", {}))
            assert (moved["from"], moved["to"]) == ("gpu", "host")
            assert (await status(mcp))["endpoints"][0]["state"] == "asleep"
            assert (await read(mcp))["text"] == echo()
            moved = facts(await mcp.call_tool("gpu_release", {}))
            assert (moved["from"], moved["to"]) == ("gpu", "unloaded")
            answer = await read(mcp)
            assert answer["text"] == echo(), "its weights were not loaded again"
            assert answer["timing"]["load_s"] > 0
    moves = [call.removeprefix("POST ") for call in vllm.calls if call.startswith("POST")]
    assert moves == [
        "/sleep?level=1",
        "/wake_up",
        "/sleep?level=2",
        "/wake_up?tags=weights",
        "/collective_rpc",
        "/wake_up?tags=kv_cache",
    ]


async def test_by_default_it_sleeps_when_nobody_reads() -> None:
    with fake_vllm() as vllm:
        async with remote(vllm, gpu_offload_after=0, gpu_idle_timeout=60) as mcp:
            assert (await read(mcp))["text"] == echo()
            await until(vllm, lambda: vllm.level == 1)
            assert (await read(mcp))["text"] == echo()
            await until(vllm, lambda: vllm.level == 1)


async def test_one_that_another_put_to_sleep_is_woken_from_the_level_that_it_has() -> None:
    with fake_vllm() as vllm:
        vllm.sleep({"level": ["2"]})
        async with remote(vllm) as mcp:
            assert (await read(mcp))["text"] == echo()
    assert "POST /collective_rpc" in vllm.calls


async def test_vllm_that_works_for_others_is_left_awake() -> None:
    with fake_vllm() as vllm:
        async with remote(vllm) as mcp:
            await read(mcp)
            vllm.others = 2
            result = await mcp.call_tool("gpu_offload", {})
            assert result.is_error
            assert "2 requests of others" in said(result)
            assert vllm.level == 0


@pytest.mark.parametrize("how", [{"dev_mode": False}, {"owner": "sglang"}, {"sleep_mode": False}])
async def test_an_endpoint_without_sleep_says_so_and_goes_on_reading(how: dict[str, Any]) -> None:
    with fake_vllm(**how) as vllm:
        async with remote(vllm, gpu_offload_after=0) as mcp:
            await read(mcp)
            for tool in ("gpu_offload", "gpu_release"):
                moved = facts(await mcp.call_tool(tool, {}))
                assert (moved["from"], moved["to"]) == ("gpu", "gpu")
                assert vllm.url in moved["message"]
            assert (await read(mcp))["text"] == echo()
    assert vllm.level == 0


async def test_vllm_that_cannot_be_woken_is_told() -> None:
    with fake_vllm() as vllm:
        async with remote(vllm) as mcp:
            await read(mcp)
            facts(await mcp.call_tool("gpu_offload", {}))
            vllm.refuse_wake = True
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"})
            assert "answered HTTP 500 to /wake_up" in said(result)
            vllm.refuse_wake = False
            assert (await read(mcp))["text"] == echo()


async def test_release_by_force_stops_what_is_read() -> None:
    with fake_vllm(seconds=20) as vllm:
        vllm.script = ["text:" + " ".join(map(str, range(4000)))]
        async with remote(vllm) as mcp:
            results: list[Any] = []

            async def ask() -> None:
                results.append(await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"}))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await until(vllm, lambda: vllm.running == 1)
                moved = facts(await mcp.call_tool("gpu_release", {"force": True}))
            assert moved["to"] == "unloaded"
    assert "released by force" in said(results[0])
    assert vllm.broken_off == 1
