"""Results as resources: links in answers that were cut or saved, and nothing for whoever has no link."""

from __future__ import annotations

import re

import pytest
from mcp import Client, MCPError
from mcp.types import CallToolResult

from deepseek_ocr_mcp.edges.mcp.server import build_mcp
from support import as_base64, client, facts, http_client, http_server, png, running, said, tiff

pytestmark = pytest.mark.anyio

DOCUMENT = as_base64(tiff(11, 12, 13))
PAGE = as_base64(png())
WHOLE = "\n".join(f"line {i:04}" for i in range(20))


def links(result: CallToolResult) -> list[str]:
    """The addresses of whole texts that an answer names. None is a link block: LangChain's agents end with one."""
    assert {block.type for block in result.content} == {"text"}
    return re.findall(r"is the resource (ocr://results/[\w-]{22});", said(result))


async def text_of(mcp: Client, uri: str) -> str:
    [found] = (await mcp.read_resource(uri)).contents
    assert found.mime_type == "text/markdown"
    text: str = found.text  # type: ignore[union-attr]
    return text


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_cut_answer_links_to_the_whole_text(mode: str) -> None:
    async with client("Verbose", mode=mode) as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE, "max_chars": 55})
        assert facts(result)["truncated"] is True
        [link] = links(result)
        assert "The whole text (page 1, 199 characters) is" in said(result)
        assert await text_of(mcp, link) == WHOLE
        assert await text_of(mcp, f"{link}/pages/1") == WHOLE


async def test_a_cut_document_links_to_its_pages() -> None:
    async with client("Verbose") as mcp:
        arguments = {"image": DOCUMENT, "pages": "2-", "max_chars": 210}
        [link] = links(await mcp.call_tool("ocr_image", arguments))
        assert await text_of(mcp, link) == f"{WHOLE}\n\n{WHOLE}"
        assert await text_of(mcp, f"{link}/pages/3") == WHOLE
        with pytest.raises(MCPError, match="it has 2, 3"):
            await mcp.read_resource(f"{link}/pages/1")


async def test_an_answer_that_holds_everything_links_to_nothing() -> None:
    async with client() as mcp:
        assert links(await mcp.call_tool("ocr_image", {"image": DOCUMENT})) == []


async def test_each_answer_has_a_link_of_its_own_and_no_list_tells_them() -> None:
    async with client("Verbose") as mcp:
        uris = {links(await mcp.call_tool("ocr_image", {"image": PAGE, "max_chars": 55}))[0] for _ in range(5)}
        assert len(uris) == 5
        assert (await mcp.list_resources()).resources == []
        templates = {each.uri_template: each for each in (await mcp.list_resource_templates()).resource_templates}
        assert set(templates) == {"ocr://results/{id}", "ocr://results/{id}/pages/{page}"}
        assert all(each.title and each.description and each.mime_type for each in templates.values())


@pytest.mark.parametrize(
    "uri",
    ["ocr://results/AAAAAAAAAAAAAAAAAAAAAA", "ocr://results/..%2F..%2Fetc%2Fpasswd", "ocr://results/x/pages/1",
     "ocr://results/", "ocr://else/x", "file:///etc/passwd"],
)  # fmt: skip
async def test_what_is_no_result_is_a_clear_error(uri: str) -> None:
    async with client() as mcp:
        with pytest.raises(MCPError) as caught:
            await mcp.read_resource(uri)
        assert caught.value.error.code == -32602
        assert "passwd" not in caught.value.error.message.replace(uri, "")
        facts(await mcp.call_tool("gpu_status", {}))


async def test_an_old_result_is_told_to_be_read_again() -> None:
    async with client("Verbose") as mcp:
        [link] = links(await mcp.call_tool("ocr_image", {"image": PAGE, "max_chars": 55}))
        for _ in range(200):
            await mcp.read_resource(link)  # what is asked for stays
        assert await text_of(mcp, link) == WHOLE
        with pytest.raises(MCPError, match="Call ocr_image again"):
            await mcp.read_resource(link[:-1] + ("A" if link[-1] != "A" else "B"))


async def test_two_servers_over_one_service_do_not_share_their_results() -> None:
    async with running("Verbose") as service:
        async with Client(build_mcp(service, local=True)) as mcp:
            [link] = links(await mcp.call_tool("ocr_image", {"image": PAGE, "max_chars": 55}))
        async with Client(build_mcp(service, local=True)) as other:
            with pytest.raises(MCPError):
                await other.read_resource(link)


async def test_over_http_the_token_protects_results_too() -> None:
    with http_server("Verbose", OCR_AUTH_TOKEN="correct-horse-battery") as server:
        async with http_client(server, token="correct-horse-battery") as mcp:
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "max_chars": 55})
            [link] = links(result)
            assert "line 0019" not in said(result)
            assert await text_of(mcp, link) == WHOLE
        async with http_client(server, token="correct-horse-battery") as another:
            assert await text_of(another, link) == WHOLE, "the link works for whoever was given it"
        for token in ("", "wrong"):
            with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the SDK makes of a 401
                async with http_client(server, token=token) as mcp:
                    await mcp.read_resource(link)
            assert WHOLE not in str(caught.value)
