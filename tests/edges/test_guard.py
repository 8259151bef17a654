"""Every line of stdin is answered, and every text of an answer can be written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp.types import JSONRPCError, JSONRPCNotification, jsonrpc_message_adapter
from pydantic import ValidationError

from deepseek_ocr_mcp.edges.mcp.guard import refusals, with_a_known_id

CALL = '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":%s}'


def answers(line: str) -> list[dict[str, Any]]:
    """What is answered to a line that the SDK cannot parse."""
    with pytest.raises(ValidationError) as caught:
        jsonrpc_message_adapter.validate_json(with_a_known_id(line), by_name=False)
    return [json.loads(each.model_dump_json(exclude_unset=True)) for each in refusals(caught.value)]


@pytest.mark.parametrize(
    ("line", "number", "code", "says"),
    [
        (CALL % '{"name":"\\ud83d"}', 7, -32700, "half of a character"),
        (CALL % "[1]", 7, -32602, "object"),
        (CALL % '"x"', 7, -32602, "object"),
        (CALL % ('{"a":' + "[" * 250 + "]" * 250 + "}"), 7, -32700, "deeply"),
        (CALL % ("[" * 100_000), None, -32700, "JSON"),
        ('{"jsonrpc":"2.0","id":"a b","method":5}', "a b", -32600, "request"),
        ('{"jsonrpc":"1.0","id":7,"method":"ping"}', 7, -32600, "request"),
        ('{"id":7,"method":"ping"}', 7, -32600, "request"),
        ("nonsense", None, -32700, "JSON"),
        ("{", None, -32700, "JSON"),
        ("5", None, -32600, "object"),
        ("null", None, -32600, "object"),
        ("{}", None, -32600, "request"),
        ("[]", None, -32600, "Batches"),
        ("[1]", None, -32600, "Batches"),
    ],
)
def test_a_line_that_cannot_be_parsed_is_answered_with_its_id_where_that_can_be_told(
    line: str, number: object, code: int, says: str
) -> None:
    (answer,) = answers(line)
    assert answer["jsonrpc"] == "2.0"
    assert answer["id"] == number
    assert type(answer["id"]) is type(number)
    assert answer["error"]["code"] == code
    assert says in answer["error"]["message"]


@pytest.mark.parametrize("number", ["null", "true", "false", "1.5", "1.0", "-2e3", "{}", "[7]"])
def test_a_request_whose_id_is_none_is_refused_with_the_id_null(number: str) -> None:
    # The SDK takes each of them for a notification.
    line = f'{{"method":"ping","id" : {number},"jsonrpc":"2.0"}}'
    assert isinstance(jsonrpc_message_adapter.validate_json(line, by_name=False), JSONRPCNotification)
    (answer,) = answers(line)
    assert answer["id"] is None
    assert answer["error"]["code"] == -32600
    assert "`id`" in answer["error"]["message"]


@pytest.mark.parametrize(
    "line",
    [
        '{"jsonrpc":"2.0","id":-7,"method":"ping"}',
        '{"jsonrpc":"2.0","id":"null","method":"ping"}',
        '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"arguments":{"id":null}}}',
        '{"jsonrpc":"2.0","method":"notifications/x","params":{"id":1.5}}',
        '{"jsonrpc":"2.0","id":7,"result":{"id":null}}',
        '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}',
    ],
)
def test_a_message_that_is_in_order_passes_as_it_is(line: str) -> None:
    assert with_a_known_id(line) == line


def test_each_request_of_a_batch_is_answered() -> None:
    batch = [{"jsonrpc": "2.0", "id": number, "method": "ping"} for number in (1, 2)]
    told = answers(json.dumps([*batch, {"jsonrpc": "2.0", "method": "notifications/initialized"}]))
    assert [each["id"] for each in told] == [1, 2]


@pytest.mark.parametrize(
    "line",
    [
        '{"jsonrpc":"2.0","method":"notifications/cancelled","params":[1]}',
        '{"jsonrpc":"2.0","id":7,"result":5}',
        '{"jsonrpc":"2.0","id":7,"error":"x"}',
    ],
)
def test_a_notification_and_an_answer_get_no_answer(line: str) -> None:
    assert answers(line) == []


def test_an_answer_can_be_written_whatever_the_id_was() -> None:
    line = '{"jsonrpc":"2.0","id":"\\ud83d","method":"ping"}'
    (answer,) = answers(line)
    assert answer["id"] == "\ufffd"


def test_a_refusal_is_a_message_of_the_protocol() -> None:
    with pytest.raises(ValidationError) as caught:
        jsonrpc_message_adapter.validate_json("nonsense", by_name=False)
    (refusal,) = refusals(caught.value)
    assert isinstance(jsonrpc_message_adapter.validate_json(refusal.model_dump_json(exclude_unset=True)), JSONRPCError)
