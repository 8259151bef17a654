"""Writes the request for a page, in the dialect of the server that reads it.

Sources of the dialects: vLLM's `NGramPerReqLogitsProcessor` (vllm/model_executor/models/deepseek_ocr.py), SGLang's
`DeepseekOCRNoRepeatNGramLogitProcessor` (python/sglang/srt/sampling/custom_logit_processor.py), OpenAI's reference of
`max_completion_tokens`. Behind a gateway the operator names the server (`OCR_REMOTE_SERVER`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ...engines.base import ReadOptions
from ...engines.loops import NGRAM, WINDOW
from ...engines.vision_models import MAX_NEW_TOKENS
from ...modes import MODES
from .trouble import Facts, Server

__all__ = ["merged", "owner_of", "page_request", "refused_names"]

CELLS: Final = (128821, 128822)  # <td> and </td> in DeepSeek-OCR's vocabulary, which an empty table repeats rightly
IMAGE: Final = "<image>"

_OPTIONAL: Final[tuple[str, ...]] = (
    "temperature", "max_tokens", "max_completion_tokens", "stream_options", "skip_special_tokens", "vllm_xargs",
    "custom_logit_processor", "custom_params",
)  # fmt: skip
"""Fields that a request can do without, if an endpoint refuses them by name."""
_PROCESSOR: Final = ("custom_logit_processor", "custom_params")
_LIMITS: Final = ("max_tokens", "max_completion_tokens")

_OWNERS: Final[Mapping[str, Server]] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "llamacpp": "llama.cpp",
    "library": "ollama",
    "organization_owner": "lmstudio",
}
"""The servers, by the `owned_by` in their lists of models."""

# SGLang takes a processor as JSON with a pickle in hexadecimal digits. This pickle is a reference to a class of
# SGLang's own and nothing else: opcode GLOBAL, the module, the class, STOP.
_SGLANG_CLASS: Final = "sglang.srt.sampling.custom_logit_processor", "DeepseekOCRNoRepeatNGramLogitProcessor"
_SGLANG_PROCESSOR: Final = json.dumps({"callable": "c{}\n{}\n.".format(*_SGLANG_CLASS).encode().hex()})


def owner_of(card: Mapping[str, Any]) -> Server:
    """The server, by an entry of its list of models; empty if the entry does not tell."""
    owner = card.get("owned_by")
    return _OWNERS.get(owner, "") if isinstance(owner, str) else ""


def page_request(facts: Facts, options: ReadOptions, picture: str) -> dict[str, Any]:
    """The body of the request for a page.

    Args:
        facts: the model, its server, and the length of its context.
        options: the question about the page.
        picture: the page as a `data:` URL.
    """
    mode = MODES[options.mode]
    question = mode.question(options.find_term, options.custom_prompt, in_words=not facts.grounding)
    content = [
        {"type": "image_url", "image_url": {"url": picture}},
        {"type": "text", "text": question.replace(IMAGE, "").strip()},
    ]
    request: dict[str, Any] = {
        "model": facts.model,
        "messages": [{"role": "user", "content": content}],
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    # Without a limit vLLM writes until the context is full: 8192 tokens for DeepSeek-OCR.
    if facts.context is None or facts.context >= 2 * MAX_NEW_TOKENS:
        request["max_completion_tokens" if facts.server == "openai" else "max_tokens"] = MAX_NEW_TOKENS
    if facts.server == "vllm":
        request["stream_options"]["continuous_usage_stats"] = True
    if facts.grounding:
        request |= _ban(facts.server)
    return request


def _ban(server: Server) -> dict[str, Any]:
    """The fields that keep DeepSeek-OCR's tags in the answer, and keep the model from repeating itself."""
    ban = {"ngram_size": NGRAM, "window_size": WINDOW, "whitelist_token_ids": list(CELLS)}
    if server == "vllm":
        return {"skip_special_tokens": False, "vllm_xargs": ban}
    if server == "sglang":
        return {"skip_special_tokens": False, "custom_logit_processor": _SGLANG_PROCESSOR, "custom_params": ban}
    return {}


def merged(request: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """A request with the operator's fields in it: objects are merged, and `None` leaves a field out."""
    result = dict(request)
    for name, value in fields.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value)
        else:
            result[name] = value
    return result


def refused_names(message: str, sent: Iterable[str], *, is_too_long: bool) -> set[str]:
    """The fields to leave out when a refused request is sent again; empty if that would not help.

    Args:
        message: the words of the endpoint.
        sent: the names of the fields, without those that the operator set.
        is_too_long: whether the page and its answer are too long for the model. Without a limit for the answer they may
            fit.
    """
    names = {name for name in sent if name in _OPTIONAL and name in message}
    if "custom logit processor" in message:  # SGLang without --enable-custom-logit-processor
        names |= set(_PROCESSOR)
    if names & set(_PROCESSOR):
        names |= set(_PROCESSOR)
    if is_too_long:
        names |= set(_LIMITS)
    return names & set(sent)
