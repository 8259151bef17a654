"""What is known of an endpoint before it is asked, and what is made of what it says.

What it is asked: tests/edges/test_remote.py.
"""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_ocr_mcp.config import Settings, load_settings
from deepseek_ocr_mcp.engines import KNOWN, choose_engine, cpu_engine
from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
from deepseek_ocr_mcp.engines.loops import LONGEST_PIECE, TextGuard
from deepseek_ocr_mcp.engines.vision_models import MODEL_REMARKS, remarks_of_endpoint
from deepseek_ocr_mcp.errors import BadRequest
from deepseek_ocr_mcp.lifecycle.remote.answers import (
    MAX_RETRY_AFTER_S,
    Completion,
    completed,
    parse_page,
    quoted,
    retry_after,
    server_message,
)
from deepseek_ocr_mcp.lifecycle.remote.client import LARGEST_SIDE, side_for
from deepseek_ocr_mcp.lifecycle.remote.concurrency import LearnedConcurrency
from deepseek_ocr_mcp.lifecycle.remote.names import served_name
from deepseek_ocr_mcp.lifecycle.remote.request import merged, page_request, refused_names
from deepseek_ocr_mcp.lifecycle.remote.settings import endpoint_settings
from deepseek_ocr_mcp.lifecycle.remote.trouble import Address, Facts, Server
from deepseek_ocr_mcp.modes import MODES, RESOLUTIONS

# -- addresses


@pytest.mark.parametrize(
    ("given", "base", "root"),
    [
        ("http://10.0.0.5:8000", "http://10.0.0.5:8000/v1", "http://10.0.0.5:8000"),
        ("http://10.0.0.5:8000/v1/", "http://10.0.0.5:8000/v1", "http://10.0.0.5:8000"),
        ("https://ocr.example.org/team/v1", "https://ocr.example.org/team/v1", "https://ocr.example.org/team"),
        ("https://ocr.example.org/api", "https://ocr.example.org/api", "https://ocr.example.org/api"),
        ("http://[::1]:8000", "http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_an_address_leads_to_the_chat_api_and_to_what_is_beside_it(given: str, base: str, root: str) -> None:
    address = Address.parse(given)
    assert (address.base, address.root, address.login) == (base, root, None)


def test_a_name_and_a_password_are_taken_out_of_an_address() -> None:
    address = Address.parse("https://user:p%40ss@ocr.example.org/v1")
    assert address.login == ("user", "p@ss")
    assert "ss" not in repr(address).replace("address", "").replace("Address", "")
    assert address.base == "https://ocr.example.org/v1"


@pytest.mark.parametrize(
    "wrong", ["10.0.0.5:8000", "ftp://a", "http://", "http://a?b=c", "http://a:b:c", "http://a:0x"]
)
def test_what_is_no_address_is_refused_and_not_repeated(wrong: str) -> None:
    with pytest.raises(BadRequest) as refused:
        Address.parse(wrong)
    assert wrong not in str(refused.value).replace("http://10.0.0.5:8000/v1", "")


def test_pages_are_sent_as_large_as_their_resolution_says() -> None:
    assert {name: side_for(name) for name in RESOLUTIONS} == {
        "auto": LARGEST_SIDE, "tiny": 512, "small": 640, "base": 1024, "large": 1280, "gundam": LARGEST_SIDE,
    }  # fmt: skip


# -- the engine's place among the others


def test_it_is_chosen_by_name_only_and_has_no_worker() -> None:
    spec, reason = choose_engine("openai")
    assert (spec, reason) == (KNOWN["openai"], "OCR_ENGINE=openai.")
    assert spec.is_remote
    assert not any(other.is_remote for other in KNOWN.values() if other is not spec)
    assert cpu_engine("openai") is None
    assert choose_engine("auto")[0] is not spec


def test_what_was_read_is_known_again_if_the_model_has_a_name() -> None:
    from dataclasses import replace

    spec = KNOWN["openai"]
    in_words = replace(spec, asks="words")
    assert spec.version("a") == spec.version("a")
    assert len({spec.version("a"), spec.version("b"), in_words.version("a")}) == 3
    unnamed = "from deepseek_ocr_mcp.engines import KNOWN; print(KNOWN['openai'].version(''))"
    elsewhere = subprocess.run([sys.executable, "-c", unnamed], capture_output=True, text=True, check=True)
    assert elsewhere.stdout.strip() != spec.version("")


def test_nothing_of_the_client_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, deepseek_ocr_mcp.app.run, deepseek_ocr_mcp.cli.main\n"
        "assert 'deepseek_ocr_mcp.lifecycle.remote.manager' not in sys.modules\n"
        "import deepseek_ocr_mcp.lifecycle.remote.manager\n"
        "assert not {'openai', 'PIL', 'numpy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)


# -- what an endpoint says


def test_retry_after_is_seconds_or_a_date_and_bounded() -> None:
    from datetime import UTC, datetime, timedelta
    from email.utils import format_datetime

    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after": "-3"}) == 0
    assert retry_after({"retry-after": "1e9"}) == MAX_RETRY_AFTER_S
    assert [retry_after({"retry-after": text}) for text in ("nan", "soon", "", "inf")] == [None] * 4
    assert retry_after({}) is None
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (retry_after({"retry-after": later}) or 0) <= 60


def test_of_an_error_a_sentence_is_quoted_and_never_what_it_repeats_of_the_request() -> None:
    assert server_message({"error": {"message": "The  model\ndoes not exist."}}) == "The model does not exist."
    assert (
        server_message({"message": "no"}) == server_message({"detail": "no"}) == server_message({"error": "no"}) == "no"
    )
    assert len(quoted(server_message({"detail": "x" * 10_000}))) == 202
    assert server_message({"detail": [{"loc": ["body"], "input": "a secret prompt"}]}) == ""
    assert [server_message(nothing) for nothing in (None, [], 5, {"error": None})] == [""] * 4


def test_the_faults_of_a_refused_request_are_read_from_a_list() -> None:
    faults = [
        {"type": "less_than", "loc": ["body", "max_tokens"], "msg": "Input should be less than 4096", "input": 8192},
        {"message": "It has no model."},
        "And a sentence.",
        {"loc": ["body"]},
        None,
    ]
    expected = "max_tokens: Input should be less than 4096; It has no model.; And a sentence."
    assert server_message({"detail": faults}) == server_message({"errors": faults}) == expected


@pytest.mark.parametrize(
    ("reason", "finish", "remark"),
    [
        ("stop", "stop", ""),
        ("STOP", "stop", ""),
        ("eos_token", "stop", ""),
        ("MAX_TOKENS", "length", ""),
        ("model_length", "length", ""),
        ("repetition", "loop", ""),
        ("content_filter", "cancelled", "content filter"),
        ("moonlight", "stop", "'moonlight'"),
        ("", "stop", "no reason"),
    ],
)
def test_a_reason_that_nobody_knows_keeps_the_text_with_a_remark(reason: str, finish: str, remark: str) -> None:
    done = completed("the text", reason, 3)
    assert (done.text, done.finish) == ("the text", finish)
    assert remark in done.remark
    assert bool(remark) == bool(done.remark)


# -- thoughts


@pytest.mark.parametrize(
    ("written", "text", "remark"),
    [
        ("<think>\nA page.\n</think>\n\n# Title", "# Title", ""),
        ("<think></think>\n# Title", "# Title", ""),
        ("  <THINKING>x</THINKING># Title", "# Title", ""),
        ("[THINK]x[/THINK]\n# Title", "# Title", ""),
        ("\u25c1think\u25b7x\u25c1/think\u25b7# Title", "# Title", ""),
        ("<think>a</think><think>b</think>```markdown\n# Title\n```", "# Title", ""),
        ("The page shows a title.\n</think>\n\n# Title", "# Title", "left out"),
        ("<think>This never", "", "within its thoughts"),
        ("# The tag <think> in a text\n</think>\nmore", "# The tag <think> in a text\n</think>\nmore", ""),
        ("A line with </think> in it", "A line with </think> in it", ""),
        ("# Title", "# Title", ""),
    ],
)
def test_thoughts_never_land_on_a_page(written: str, text: str, remark: str) -> None:
    page = parse_page(PageImage("", 9, 9), ReadOptions("document"), Facts("m"), Completion(written, "stop", 3))
    assert page.text == text
    assert remark in page.remark
    assert bool(remark) == bool(page.remark)
    assert "A page." not in (page.raw or "")


def test_tags_of_thoughts_without_an_end_cost_no_time() -> None:
    for piece in ("<think>", "</think>", "<think></think>", "[THINK]", "\n"):
        _parsed = parse_page(
            PageImage("", 9, 9), ReadOptions("free"), Facts("m"), Completion(piece * 20_000, "stop", 1)
        )
        assert len(_parsed.text) < 200_000


# -- names of models


@pytest.mark.parametrize(
    ("model", "listed", "name"),
    [
        ("a", ["b", "a"], "a"),
        ("deepseek-ocr", ["deepseek-ocr:3b", "deepseek-ocr:latest"], "deepseek-ocr:latest"),
        ("deepseek-ocr:latest", ["deepseek-ocr"], "deepseek-ocr"),
        ("deepseek-ocr", ["deepseek-ocr:3b"], None),
        ("gemini-3-pro", ["models/gemini-3-pro"], "models/gemini-3-pro"),
        ("models/gemini-3-pro", ["gemini-3-pro"], "gemini-3-pro"),
        ("DeepSeek-AI/DeepSeek-OCR", ["deepseek-ai/deepseek-ocr"], "deepseek-ai/deepseek-ocr"),
        ("openai/gpt-6", ["anthropic/*", "openai/*"], "openai/gpt-6"),
        ("anything", ["*"], "anything"),
        ("vendor/a/model-x", ["vendor/*/model-*"], "vendor/a/model-x"),
        ("ab", ["ab*b"], None),
        ("a" * 200, ["*a" * 100 + "b"], None),
        ("openai/gpt-6", ["anthropic/*"], None),
        ("a.b", ["aXb"], None),
        ("a", [], None),
    ],
)
def test_a_model_is_found_by_its_name_as_servers_find_it(model: str, listed: list[str], name: str | None) -> None:
    assert served_name(model, listed) == name


# -- requests


def request_for(server: Server, *, grounding: bool = True, context: int | None = None) -> dict[str, Any]:
    facts = Facts("m", server, grounding, context=context)
    return page_request(facts, ReadOptions("free"), "data:image/png;base64,AA==")


def test_the_ban_of_repetitions_is_sent_as_each_server_takes_it() -> None:
    ban = {"ngram_size": 30, "window_size": 90, "whitelist_token_ids": [128821, 128822]}
    assert request_for("vllm")["vllm_xargs"] == ban
    sglang = request_for("sglang")
    assert sglang["custom_params"] == ban
    assert sglang["skip_special_tokens"] is request_for("vllm")["skip_special_tokens"] is False
    others: list[Server] = ["ollama", "llama.cpp", "lmstudio", "openai", ""]
    in_words = (request_for("vllm", grounding=False), request_for("sglang", grounding=False))
    for plain in (*map(request_for, others), *in_words):
        assert not plain.keys() & {"vllm_xargs", "custom_params", "custom_logit_processor", "skip_special_tokens"}


def test_what_sglang_unpacks_is_the_name_of_its_own_class_and_nothing_else() -> None:
    data = bytes.fromhex(json.loads(request_for("sglang")["custom_logit_processor"])["callable"])
    assert [code.name for code, _, _ in pickletools.genops(data)] == ["GLOBAL", "STOP"]

    class Names(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return module, name

    assert Names(io.BytesIO(data)).load() == (
        "sglang.srt.sampling.custom_logit_processor",
        "DeepseekOCRNoRepeatNGramLogitProcessor",
    )


def test_openai_is_given_the_limit_under_its_own_name() -> None:
    assert request_for("openai")["max_completion_tokens"] == request_for("")["max_tokens"] == 8192
    assert "max_tokens" not in request_for("openai")
    assert not request_for("vllm", context=8192).keys() & {"max_tokens", "max_completion_tokens"}


def test_the_fields_of_the_operator_are_merged_into_a_request() -> None:
    request = {"temperature": 0.0, "max_tokens": 8192, "stream_options": {"include_usage": True}}
    fields = {"temperature": 0.2, "max_tokens": None, "stream_options": {"more": 1}, "top_p": 0.9, "nothing": None}
    assert merged(request, fields) == {
        "temperature": 0.2, "stream_options": {"include_usage": True, "more": 1}, "top_p": 0.9,
    }  # fmt: skip
    assert request["max_tokens"] == 8192


PROCESSOR = {"custom_logit_processor", "custom_params"}


@pytest.mark.parametrize(
    ("message", "is_too_long", "names"),
    [
        ("Unsupported parameter: 'max_tokens'", False, {"max_tokens"}),
        ("The server is not configured to enable custom logit processor.", False, PROCESSOR),
        ("Unknown field custom_params", False, PROCESSOR),
        ("This model's maximum context length is 4096 tokens.", True, {"max_tokens"}),
        ("The model is asleep", False, set()),
        ("messages: too short", False, set()),
    ],
)  # fmt: skip
def test_of_a_refused_request_only_what_it_can_do_without_is_left_out(
    message: str, is_too_long: bool, names: set[str]
) -> None:
    sent = {"model", "messages", "max_tokens", "temperature", "custom_logit_processor", "custom_params"}
    assert refused_names(message, sent, is_too_long=is_too_long) == names


# -- settings of endpoints

TWO = "http://a:1,http://b:2/v1"


def test_a_key_headers_and_a_server_are_for_all_endpoints_or_for_one() -> None:
    first, second = endpoint_settings(
        Settings(
            ocr_remote_url=TWO,
            ocr_remote_key='{"http://a:1/v1": "the-key-of-a"}',
            ocr_remote_headers='{"X-Team": "ocr", "http://b:2": {"Authorization": "Basic Zm9v", "X-Team": "b"}}',
            ocr_remote_server='{"http://b:2": "vllm"}',
            ocr_remote_fields='{"reasoning_effort": "none"}',
        )
    )
    assert (first.key, second.key) == ("the-key-of-a", "")
    assert (first.server, second.server) == ("", "vllm")
    assert first.headers == {"X-Team": "ocr"}
    assert second.headers == {"X-Team": "b", "Authorization": "Basic Zm9v"}
    assert first.fields == second.fields == {"reasoning_effort": "none"}
    assert "the-key-of-a" not in repr(first)
    assert "Zm9v" not in repr(second)
    for one in endpoint_settings(Settings(ocr_remote_url=TWO, ocr_remote_key="k", ocr_remote_server="sglang")):
        assert (one.key, one.server) == ("k", "sglang")


@pytest.mark.parametrize(
    "setting",
    [
        {"ocr_remote_key": '{"http://c:3": "k"}'},
        {"ocr_remote_server": '{"http://c:3": "vllm"}'},
        {"ocr_remote_headers": '{"http://c:3": {"A": "b"}}'},
    ],
)
def test_a_setting_for_an_address_that_is_no_endpoint_is_refused(setting: dict[str, str]) -> None:
    with pytest.raises(BadRequest, match="names http://c:3/v1, which OCR_REMOTE_URL does not name"):
        endpoint_settings(Settings(ocr_remote_url=TWO, **setting))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("OCR_REMOTE_FIELDS", "{oops", "no JSON object"),
        ("OCR_REMOTE_FIELDS", '["a"]', "no JSON object"),
        ("OCR_REMOTE_FIELDS", '{"model": "a", "stream": false}', "model, stream: the server sets this itself"),
        ("OCR_REMOTE_SERVER", "vlm", "the names are vllm, sglang"),
        ("OCR_REMOTE_SERVER", '{"http://a": "VLLM"}', "no server that is known"),
        ("OCR_REMOTE_HEADERS", '{"A b": "c"}', "no header that you can set"),
        ("OCR_REMOTE_HEADERS", '{"Content-Length": "1"}', "no header that you can set"),
        ("OCR_REMOTE_HEADERS", '{"A": "a\\nB: c"}', "no text that a header can carry"),
        ("OCR_REMOTE_HEADERS", '{"A": 1}', "no text that a header can carry"),
        ("OCR_REMOTE_KEY", '{"http://a": 1}', "a key is a text"),
        ("OCR_REMOTE_PROXY", "proxy.example.org:3128", "no address of a proxy"),
        ("OCR_REMOTE_PROXY", "socks5://user:hunter2@proxy", "no address of a proxy"),
        ("OCR_REMOTE_PROXY", "http://user:hunter2@proxy:x", "no address of a proxy"),
        ("OCR_REMOTE_KEY", '{"http://a": "hunter2"', "no JSON object"),
    ],
)
def test_a_setting_that_cannot_be_sent_stops_the_start_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadRequest, match=reason) as error:
        load_settings()
    assert name in error.value.message
    assert "hunter2" not in str(error.value)


def test_every_secret_of_an_endpoint_is_struck_out_of_the_log() -> None:
    settings = Settings(
        ocr_remote_url=TWO,
        ocr_remote_key='{"http://a:1": "key-of-a", "http://b:2": "key-of-b"}',
        ocr_remote_headers='{"X-Team": "ocr", "http://a:1": {"Api-Key": "0123456789"}}',
        ocr_remote_proxy="http://user:word@proxy:3128",
    )
    assert settings.secrets == ["key-of-a", "key-of-b", "0123456789", "word"]
    assert "0123456789" not in repr(settings)


# -- concurrency


def test_a_cold_start_and_a_small_first_page_are_unlearned() -> None:
    room = LearnedConcurrency(32)
    room.page_read(60.0, 5.0, alone=True, mates=0)  # the model was loaded first
    room.page_read(1.0, 5.0, alone=False, mates=1)
    for _ in range(20):
        room.page_read(30.0, 5.0, alone=False, mates=room.places - 1)
    assert room.places == 1
    room = LearnedConcurrency(32)
    room.page_read(0.01, 0.2, alone=True, mates=0)  # a blank slip of paper
    for _ in range(4):
        room.page_read(4.0, 1.0, alone=False, mates=1)
    assert room.places == 1
    for _ in range(40):
        room.page_read(4.0, 1.0, alone=room.places == 1, mates=room.places - 1)
    assert room.places > 2


def test_only_deepseek_s_answers_are_searched_for_boxes() -> None:
    page, options = PageImage("", 100, 100), ReadOptions("document")
    written = "<|ref|>title<|/ref|><|det|>[[0, 0, 999, 999]]<|/det|>\n# A<\uff5cend\u2581of\u2581sentence\uff5c>"
    found = parse_page(page, options, Facts("m", grounding=True), Completion(written, "stop", 3))
    assert (found.text, [block.box for block in found.blocks]) == ("# A", [(0, 0, 100, 100)])
    plain = parse_page(page, options, Facts("m"), Completion(written, "stop", 3))
    assert (plain.text, plain.blocks) == (written, ())


# -- loops in a text


def fed(text: str, cuts: random.Random | None = None) -> TextGuard:
    guard, at = TextGuard(), 0
    while at < len(text):
        step = cuts.randint(1, 9) if cuts else len(text)
        if guard.add(text[at : at + step]):
            break
        at += step
    return guard


@pytest.mark.parametrize(
    "phrase",
    [
        "The same line again.\n",
        "a",
        "的",
        "同じ行です。",
        "<td>1</td><td>2</td>",
        "0.00 | ",
        "- \u0434\u0430, \u043d\u0435\u0442\n",
    ],
)
def test_a_loop_is_cut_soon_after_its_first_copy_and_what_came_before_is_kept(phrase: str) -> None:
    before = "Invoice 4711 of 3 May, for one chair at 12.50 EUR and delivery to the door.\n"
    guard = fed(before + phrase * 5000, random.Random(1))
    assert guard.good_text.startswith(before)
    assert len(guard.good_text) <= len(before) + 2 * len(phrase) + LONGEST_PIECE
    assert len(guard.text) < len(before) + 3000


@pytest.mark.parametrize(
    "text",
    [
        "Introduction " + "." * 150 + " 1\nMethods " + "." * 150 + " 7\n",
        "Name " + "_" * 200 + "\nPlace " + "_" * 200,
        "<table>" + ("<tr>" + "<td></td>" * 6 + "</tr>") * 20 + "</table>",
        "\n".join(f"{number}. item {number * 7919 % 1000} at {number * 31 % 97}.50" for number in range(400)),
    ],
)
def test_a_page_that_rightly_repeats_itself_is_whole(text: str) -> None:
    assert fed(text, random.Random(2)).good_text == text


@given(st.text(max_size=400), st.integers(0, 2**32))
def test_where_a_text_is_cut_up_on_its_way_makes_no_difference(text: str, seed: int) -> None:
    text = text + text * 3
    assert fed(text, random.Random(seed)).good_text == text[: len(fed(text, random.Random(seed)).good_text)]
    whole, pieces = TextGuard(), TextGuard()
    cut_whole = whole.add(text)
    cut_pieces = any(pieces.add(char) for char in text)
    assert cut_whole == cut_pieces
    assert not cut_whole or whole.good_text == pieces.good_text


@pytest.mark.parametrize(
    ("names", "noted"),
    [
        ("deepseek-ai/DeepSeek-OCR", set()),
        ("ocr deepseek-ai/DeepSeek-OCR-2", set(MODES) - {"document", "free"}),
        ("deepseek_ocr2:latest", set(MODES) - {"document", "free"}),
        ("baidu/Unlimited-OCR", set(MODES)),
        ("ocr", set()),
    ],
)
def test_a_served_model_that_is_asked_with_anothers_prompt_is_remarked_on(names: str, noted: set[str]) -> None:
    found = remarks_of_endpoint(names)
    assert set(found) == noted
    assert set(found.values()) <= MODEL_REMARKS, "the page may be kept: a second reading would say the same"
    page, completion = PageImage("", 9, 9), Completion("Words", "stop", 3)
    for mode in MODES:
        read = parse_page(page, ReadOptions(mode), Facts("m", grounding=True, remarks=found), completion)
        assert read.remark == found.get(mode, "")
