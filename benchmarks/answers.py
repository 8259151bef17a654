"""Claim: an agent pays for the text of a page and little else, for positions a third less than with any peer, and for a
search in a page that was read no time.

The cost of an answer is its characters: a model counts tokens, and tokens follow characters. Our server reads each page
once, over stdio. The benchmark then writes the same lines in the formats of other servers, so that every format holds
the same text:

- *plain*: the text of the page. No format can be shorter.
- *paddleocr-mcp*: its tool `ocr`, as its source has it (PaddlePaddle/PaddleOCR, mcp_server/paddleocr_mcp,
  tasks/ocr.py and inference/types.py): the text and a line about its confidence; or, `detailed`, indented JSON
  of the text, and of each line once more with its confidence and box.
- *docling-mcp*: export_docling_document_to_markdown (docling-project/docling-mcp, tools/generation.py): a key
  and the Markdown as JSON. The call before it, which converts the document, does not count.
- *docling JSON*: a DoclingDocument as docling exports it (docling-project/docling-core; examples in docling's
  tests/data/groundtruth/docling_v2): each line with its references, label, box and text, twice. The benchmark writes
  it without the indentation of docling's own files.

Our columns hold the answer that the client gets. Most clients show their model `content`; some show it `structured`
instead. `before` is this server's structured content as it was when it held the whole text and the text of each page.
`find` searches the longest word that the page has once; `find str.` is its structured content. A peer that repeats its
answer as structured content pays nothing for that.

**Searches.** A document is read once, in mode `document`. Then the benchmark searches it, for another term each time,
over stdio with a real worker. With `--before`, a server of another checkout does the same, call by call in turns.

**Markdown.** Characters that are printed on a page are escaped where a Markdown reader would take them for markup. The
benchmark counts the backslashes, lets a CommonMark reader show the text, and compares that with the text of `free`,
which has no markup: every character but white space and hyphens at the end of a line, in order. A bullet is a bullet,
whatever its sign is.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final

from markdown_it import MarkdownIt

from common import PAGES, PRODUCT, StdioServer, family, ratio, report, say, spread, table, text_of, verdict

CORPUS: Final = Path(__file__).resolve().parents[2] / "shared" / "data" / "corpus"
SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".tif", ".webp", ".bmp", ".avif", ".pdf")
SETTINGS: Final = {"OCR_ENGINE": "rapidocr", "OCR_CACHE": "on", "OCR_REPLY_SECONDS": "250"}
HUGE: Final = "huge_"  # the same text as others, and minutes to read
MIN_CHARS: Final = 200  # in a shorter text, the frame outweighs the text
MAX_CONTENT, MAX_BOXES, MAX_FIND, MAX_BEFORE = 1.05, 0.67, 0.25, 0.7
MAX_OFFERED: Final = 3600  # characters that a model reads before any call
MAX_SEARCH_S, MIN_FASTER = 0.030, 30.0
SEARCHES: Final = 5  # in each document, in turns
MAX_ESCAPES: Final = 0.005  # of the characters
SEARCHED: Final = ("scan_phototest.tif", "table_bankstatement.png", "fr_paper.png", "receipt_rewe_rot90_de.pdf")
ESCAPE: Final = re.compile(r"\\(?=[!-/:-@\[-`{-~])")
BULLET: Final = re.compile(r"^\s*[-*+•](?=\s|$)", re.MULTILINE)
HYPHEN: Final = re.compile(r"(?<=[^\W\d_])-\n(?=[^\W\d_])")


@dataclass
class Answer:
    """The characters of one page in each format."""

    plain: int
    content: int
    structured: int
    before: int
    boxes: int
    find: int
    find_structured: int
    paddle: int
    paddle_detailed: int
    docling_markdown: int
    docling_json: int


def compact(value: Any) -> str:
    """JSON as it goes over the wire."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# -- the formats of other servers, written from our lines


def paddle_simple(text: str, lines: Sequence[dict[str, Any]]) -> str:
    mean = statistics.fmean(line.get("score", 1.0) for line in lines) if lines else 0.0
    return f"{text}\n\nConfidence: {mean * 100:.1f}% | {len(lines)} text lines"


def paddle_detailed(text: str, lines: Sequence[dict[str, Any]]) -> str:
    mean = statistics.fmean(line.get("score", 1.0) for line in lines) if lines else 0.0
    found = [{"text": line["text"], "confidence": line.get("score", 1.0), "bbox": line["box"]} for line in lines]
    return json.dumps({"text": text, "confidence": mean, "text_lines": found}, ensure_ascii=False, indent=2)


def docling_markdown(text: str) -> str:
    return json.dumps(
        {"document_key": "d41d8cd98f00b204e9800998ecf8427e", "markdown": text}, ensure_ascii=False, indent=2
    )


def docling_json(name: str, pages: Sequence[dict[str, Any]]) -> str:
    texts: list[dict[str, Any]] = []
    sizes = {}
    for page in pages:
        number, height = page["page"], page["height"]
        sizes[str(number)] = {"size": {"width": float(page["width"]), "height": float(height)}, "page_no": number}
        for line in page["blocks"]:
            x1, y1, x2, y2 = line["box"]
            bbox = {"l": x1, "t": height - y1, "r": x2, "b": height - y2, "coord_origin": "BOTTOMLEFT"}
            texts.append(
                {
                    "self_ref": f"#/texts/{len(texts)}",
                    "parent": {"$ref": "#/body"},
                    "children": [],
                    "content_layer": "body",
                    "label": "text",
                    "prov": [{"page_no": number, "bbox": bbox, "charspan": [0, len(line["text"])]}],
                    "orig": line["text"],
                    "text": line["text"],
                }
            )
    root = {"content_layer": "body", "label": "unspecified"}
    return compact(
        {
            "schema_name": "DoclingDocument",
            "version": "1.10.0",
            "name": name,
            "origin": {"mimetype": "application/pdf", "binary_hash": 0, "filename": name},
            "furniture": {"self_ref": "#/furniture", "children": [], "name": "_root_", **root},
            "body": {
                "self_ref": "#/body",
                "children": [{"$ref": text["self_ref"]} for text in texts],
                "name": "_root_",
                **root,
            },
            "groups": [], "texts": texts, "pictures": [], "tables": [], "key_value_items": [], "form_items": [],
            "pages": sizes,
        }
    )  # fmt: skip


# -- measuring


def term_of(text: str) -> str:
    """A word to search: the longest word that the text has once, like a name or a number."""
    words = re.findall(r"\w{4,}", text)
    return max((word for word in words if words.count(word) == 1), key=len, default=words[0] if words else "the")


def measure(server: StdioServer, path: Path) -> Answer | None:
    """The characters of a page in each format; None where there is next to no text."""
    image = str(path)
    plain = server.result("ocr_image", image=image, mode="ocr", max_chars=0)
    boxed = server.result("ocr_image", image=image, mode="ocr", boxes=True, max_chars=0)["structuredContent"]
    text = "\n\n".join(page["text"] for page in boxed["pages"] if page["text"])
    if len(text) < MIN_CHARS:
        return None
    found = server.result("ocr_image", image=image, find_term=term_of(text), max_chars=0)
    lines = [line for page in boxed["pages"] for line in page["blocks"]]
    structured = plain["structuredContent"]
    return Answer(
        plain=len(text),
        content=len(text_of(plain)),
        structured=len(compact(structured)),
        before=len(compact({"text": text, **structured})),
        boxes=len(compact(boxed)),
        find=len(text_of(found)),
        find_structured=len(compact(found["structuredContent"])),
        paddle=len(paddle_simple(text, lines)),
        paddle_detailed=len(paddle_detailed(text, lines)),
        docling_markdown=len(docling_markdown(text)),
        docling_json=len(docling_json(path.name, boxed["pages"])),
    )


def judged(answers: dict[str, Answer], offered: str) -> str:
    """Two tables, and whether the claim holds."""
    texts = [
        [name, str(a.plain), *(f"{size / a.plain:.2f}" for size in (
            a.content, a.paddle, a.docling_markdown, a.structured, a.before, a.find, a.find_structured))]
        for name, a in answers.items()
    ]  # fmt: skip
    boxes = [
        [name, *(f"{size / a.plain:.2f}" for size in (a.boxes, a.paddle_detailed, a.docling_json))]
        for name, a in answers.items()
    ]

    def median(each: str, against: str) -> str:
        return ratio([getattr(a, each) for a in answers.values()], [getattr(a, against) for a in answers.values()])

    def number(each: str, against: str) -> float:
        return statistics.median(getattr(a, each) / getattr(a, against) for a in answers.values())

    claims = [
        (f"content is {median('content', 'plain')} of the plain text", number("content", "plain") <= MAX_CONTENT),
        (
            f"with boxes {median('boxes', 'paddle_detailed')} of paddleocr-mcp's detailed answer, "
            f"{median('boxes', 'docling_json')} of docling's JSON",
            max(number("boxes", "paddle_detailed"), number("boxes", "docling_json")) <= MAX_BOXES,
        ),
        (
            f"find is {median('find', 'plain')} of the plain text",
            number("find", "plain") <= MAX_FIND,
        ),
        (
            f"structured content is {median('structured', 'before')} of what it was",
            number("structured", "before") <= MAX_BEFORE,
        ),
    ]
    return "\n\n".join(
        [
            "Characters against those of the plain text:",
            table(
                ["page", "plain", "content", "paddle", "docling md", "structured", "before", "find", "find str."], texts
            ),
            "With positions, against the plain text:",
            table(["page", "ours", "paddle detailed", "docling JSON"], boxes),
            "\n".join(f"- Median: {said}: {verdict(holds)}." for said, holds in claims),
            offered,
        ]
    )


def offered_by(server: StdioServer) -> str:
    """The texts that a model reads before it has called a tool."""
    tools = server.list("tools")
    instructions = len(server.instructions)
    seen = instructions + sum(
        len(json.dumps(tool[part])) for tool in tools for part in ("name", "description", "inputSchema")
    )
    return (
        f"Before any call: {len(compact(tools))} characters of tools/list with {len(tools)} tools. Models are shown "
        f"{seen} characters: names, descriptions, input schemas, and {instructions} of instructions. At most "
        f"{MAX_OFFERED}: {verdict(seen <= MAX_OFFERED)}."
    )


# -- searches


def terms_of(text: str) -> list[str]:
    """Words of a text, the longest first, each once: what an agent may search for."""
    return sorted(dict.fromkeys(re.findall(r"[^\W\d_]{5,}", text)), key=len, reverse=True)[:SEARCHES]


@dataclass
class Searches:
    """The seconds of the searches in one document, for each server."""

    first: list[float]
    """Of the reading before."""
    each: list[list[float]] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """CPU seconds of a search, of the server and its children: a busy machine does not change them."""


def search(servers: Sequence[StdioServer], path: Path) -> Searches:
    """Read a document with each server, then search it for one term after the other, in turns."""
    first, text = [], ""
    for server in servers:
        began = time.perf_counter()
        text = text_of(server.result("ocr_image", image=str(path), max_chars=0))
        first.append(time.perf_counter() - began)
    found = Searches(first, [[] for _ in servers], [0.0 for _ in servers])
    for number, term in enumerate(terms_of(text)):
        turns = list(enumerate(servers))
        for n, server in turns if number % 2 else reversed(turns):
            used, began = cpu_seconds(server), time.perf_counter()
            server.result("ocr_image", image=str(path), find_term=term)
            found.each[n].append(time.perf_counter() - began)
            found.cpu[n] += cpu_seconds(server) - used
    found.cpu = [seconds / len(found.each[0]) for seconds in found.cpu]
    return found


def cpu_seconds(server: StdioServer) -> float:
    """The CPU time of a server and its children."""
    return sum(sum(process.cpu_times()[:2]) for process in family(server.process))


def searches_of(paths: Sequence[Path], before: str) -> str:
    """The table of searches, and whether the claim holds."""
    with ExitStack() as stack:
        servers = [stack.enter_context(StdioServer(PRODUCT, **SETTINGS))]
        if before:
            source = {"PYTHONPATH": str(Path(before).resolve() / "src")}
            servers.append(stack.enter_context(StdioServer(PRODUCT, **SETTINGS, **source)))
        for server in servers:
            server.initialize()
            server.call("ocr_image", image=str(PAGES / "receipt.png"))  # loads the model
        found = {}
        for path in paths:
            say(f"search in {path.name}")
            found[path.name] = search(servers, path)
    rows = [
        [
            name,
            *(f"{seconds:.2f}" for seconds in each.first),
            *(spread([1000 * seconds for seconds in of], 1) for of in each.each),
            *(f"{1000 * seconds:.0f}" for seconds in each.cpu),
        ]
        for name, each in found.items()
    ]
    names = ["ours", "before"][: len(servers)]
    columns = ("read, s", "search, ms", "search, CPU ms")
    head = ["document", *(f"{name}: {column}" for column in columns for name in names)]
    slowest = max(statistics.median(each.each[0]) for each in found.values())
    busiest = max(each.cpu[0] for each in found.values())
    lines = [
        "Searches in a document that was read, median (least–most):",
        table(head, rows),
        f"- Median of the slowest document: {1000 * slowest:.1f} ms, at most {1000 * MAX_SEARCH_S:.0f}: "
        f"{verdict(slowest <= MAX_SEARCH_S)}. In CPU time, which other programs of a busy machine do not change: "
        f"{1000 * busiest:.0f} ms, {verdict(busiest <= MAX_SEARCH_S)}.",
    ]
    if before:
        faster = [statistics.median(b) / statistics.median(a) for a, b in (each.each for each in found.values())]
        median = statistics.median(faster)
        lines.append(
            f"- Against the checkout before: ×{median:.0f} (×{min(faster):.0f}–×{max(faster):.0f}) faster, at least "
            f"×{MIN_FASTER:.0f}: {verdict(median >= MIN_FASTER)}."
        )
    return "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:])


# -- Markdown


@dataclass
class Escapes:
    """The Markdown of one document, as it is written and as a reader shows it."""

    chars: int
    backslashes: int
    same: float
    """The share of the printed characters that the reader shows, in order."""


def shown(markdown: str) -> str:
    """The text that a CommonMark reader with tables shows, with the numbers and the bullets of lists."""
    parts, in_cell = [], False
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown):
        if token.type in ("th_open", "td_open", "th_close", "td_close"):
            in_cell = token.type.endswith("open")
        elif token.type == "list_item_open":
            parts.append(f"{token.info}{token.markup}" if token.info else "•")
        elif token.type == "inline":
            text = "".join(child.content or "\n" for child in token.children or ())
            parts.append(text if in_cell else BULLET.sub("•", text))
        elif token.type in ("fence", "code_block"):
            parts.append(token.content)
    return "\n".join(parts)


def printed(text: str) -> str:
    """The characters of a text without white space, and with words whole that a line breaks."""
    return "".join(HYPHEN.sub("", text).split())


def escapes(server: StdioServer, path: Path) -> Escapes:
    """Compare the Markdown of a document with its plain text. Both are of one reading."""
    pages = [
        [page["text"] for page in server.result("ocr_image", image=str(path), mode=mode, max_chars=0)
         ["structuredContent"]["pages"]]
        for mode in ("document", "free")
    ]  # fmt: skip
    chars = backslashes = 0
    same = total = 0
    for markdown, plain in zip(*pages, strict=True):
        chars += len(markdown)
        backslashes += len(ESCAPE.findall(markdown))
        ours, theirs = printed(shown(markdown)), printed(BULLET.sub("•", plain))
        matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
        same += sum(block.size for block in matcher.get_matching_blocks()) if ours != theirs else len(theirs)
        total += max(len(ours), len(theirs))
    return Escapes(chars, backslashes, same / total if total else 1.0)


def escapes_table(found: dict[str, Escapes]) -> str:
    """The table of escapes, and whether the claim holds."""
    rows = [
        [
            name,
            str(each.chars),
            str(each.backslashes),
            f"{each.backslashes / max(each.chars, 1):.2%}",
            f"{each.same:.2%}",
        ]
        for name, each in found.items()
        if each.backslashes or each.same < 1
    ]
    share = sum(each.backslashes for each in found.values()) / max(sum(each.chars for each in found.values()), 1)
    whole = sum(each.same == 1 for each in found.values())
    return "\n\n".join(
        [
            f"Markdown, of {len(found)} documents; those with escapes or differences:",
            table(["document", "characters", "backslashes", "share", "shown as printed"], rows) if rows else "none",
            f"- Backslashes are {share:.3%} of all characters, less than {MAX_ESCAPES:.1%}: "
            f"{verdict(share < MAX_ESCAPES)}."
            f"\n- A CommonMark reader shows {whole} of {len(found)} documents exactly as printed, the others "
            f"{min(each.same for each in found.values()):.2%} at least.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples-only", action="store_true", help="leave the corpus out")
    parser.add_argument("--corpus", type=Path, default=CORPUS, metavar="FOLDER", help="pages beside the examples")
    parser.add_argument("--before", default="", metavar="FOLDER", help="a checkout to compare searches with")
    parser.add_argument("--save", action="store_true", help="keep the result in results/")
    arguments = parser.parse_args()
    corpus: Path = arguments.corpus
    folders = [PAGES] if arguments.examples_only or not corpus.is_dir() else [PAGES, corpus]
    paths = [
        path
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(HUGE)
    ]
    answers: dict[str, Answer] = {}
    written: dict[str, Escapes] = {}
    with StdioServer(PRODUCT, **SETTINGS) as server:
        server.initialize()
        for path in paths:
            say(path.name)
            if answer := measure(server, path):
                answers[path.name] = answer
            written[path.name] = escapes(server, path)
        offered = offered_by(server)
    searched = [path for path in paths if path.name in SEARCHED] or [path for path in paths if path.suffix == ".png"]
    text = "\n\n".join([judged(answers, offered), searches_of(searched, arguments.before), escapes_table(written)])
    report("answers", __doc__ or "", text, save=arguments.save)


if __name__ == "__main__":
    main()
