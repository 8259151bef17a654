"""Tiny engines that write what a language model might: a paper with formulas and tables, and what must do no harm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from deepseek_ocr_mcp.engines.base import Call, PageImage, PageText, ReadOptions, TextBlock

TABLE = (
    '<table><tr><td rowspan="2">Tide</td><td colspan="2">Height in m</td></tr><tr><td>Spring</td><td>Neap</td></tr>'
    "<tr><td>High</td><td>5.82</td><td>\\(4.3 \\pm 0.1\\)</td></tr>"
    "<tr><td>Low</td><td>0.41</td><td>1.90</td></tr></table>"
)

FORMULA = "\\[\nE = \\frac{1}{2} \\rho g \\int_0^T h(t)^2 \\, \\mathrm{d}t\n\\]"

PAPER = f"""\
# Tides of the northern coast

The height of the water at the harbour follows, in the first approximation, the sum of a few \
**harmonic constituents** with known periods, as \\(h(t) = h_0 + \\sum_k A_k \\cos(\\omega_k t + \\varphi_k)\\).

## Heights

{TABLE}

<center>Table 1. Mean heights above chart datum.</center>

The energy that passes the mouth of the bay in one period is

{FORMULA}

<!-- figure 1 -->

1. Readings were taken every ten minutes.
2. Storm days were left out; see [the log](https://tides.example.org/log).
"""

HOSTILE = """\
# <img src=x onerror="window.__pwned = 'heading'">

<script>window.__pwned = 'script'</script>

[click](javascript:window.__pwned='link') [data](data:text/html,<script>window.__pwned='data'</script>) \
[vb](vbscript:x) <a href="javascript:window.__pwned='a'" onclick="window.__pwned='onclick'">raw</a>

![pixel](https://tracker.example.org/pixel.png) ![x](javascript:window.__pwned='img')

<table onclick="window.__pwned='table'" style="position:fixed;inset:0" class="veil" id="files"><tr onmouseover="x">\
<td style="background:url(https://tracker.example.org/bg.png)" colspan="100000" rowspan="x">\
<img src=x onerror="window.__pwned='cell'"><a href="javascript:window.__pwned='cell link'">cell</a>\
<svg onload="window.__pwned='svg'"></svg><script>window.__pwned='cell script'</script>\
<form action="https://tracker.example.org"><input name="token"><button>go</button></form>\
<iframe src="https://tracker.example.org"></iframe><math><mtext><mglyph><style>\
<img src=x onerror="window.__pwned='math'">\
</td></tr></table>

\\(\\href{javascript:window.__pwned='formula'}{x}\\) \\(\\includegraphics{https://tracker.example.org/f.png}\\) \
\\(\\htmlStyle{color:red}{y}\\) \\(\\pmb{z} + \\fcolorbox{red}{blue}{w} + \\sqrt[3]{\\frac{1}{2}}\\) \
\\(\\def\\a{\\a\\a}\\a\\)

<span data-math="0"></span> <span data-figure="1"></span> <svg/onload=window.__pwned='svg'> \
<details open ontoggle=window.__pwned='toggle'> <!-- figure 99 --> <!-- <img src=x onerror=window.__pwned='comment'> -->

| <img src=x onerror=window.__pwned='cell'> | b |
| --- | --- |
| [x](javascript:window.__pwned='x') | `<b onclick=x>` |

The end of the hostile page.
"""


class Scholar:
    """Writes a page of a paper as DeepSeek-OCR would, slowly enough to be watched."""

    model = "scholar"
    seconds = 0.0

    def load(self, device: str, call: Call) -> dict[str, Any]:
        return {"model": self.model}

    def offload(self) -> None: ...

    def restore(self, device: str) -> None: ...

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        for number in range(len(pages)):
            for step in range(20):
                call.progress((number + step / 20) / len(pages), "reading")
                call.raise_if_cancelled()
                time.sleep(self.seconds / 20)
        return [self.write(page) for page in pages]

    def write(self, page: PageImage) -> PageText:
        def part(label: str, text: str, x1: float, y1: float, x2: float, y2: float) -> TextBlock:
            box = (int(x1 * page.width), int(y1 * page.height), int(x2 * page.width), int(y2 * page.height))
            return TextBlock(label, text, box)

        return PageText(
            PAPER,
            [
                part("title", "Tides of the northern coast", 0.12, 0.06, 0.72, 0.10),
                part("text", PAPER.split("\n\n")[1], 0.12, 0.12, 0.88, 0.20),
                part("sub_title", "Heights", 0.12, 0.23, 0.30, 0.26),
                part("table", TABLE, 0.12, 0.28, 0.88, 0.42),
                part("table_caption", "Table 1. Mean heights above chart datum.", 0.25, 0.43, 0.75, 0.46),
                part("text", "The energy that passes the mouth of the bay in one period is", 0.12, 0.48, 0.75, 0.51),
                part("interline_equation", FORMULA, 0.30, 0.53, 0.70, 0.59),
                part("image", "", 0.15, 0.62, 0.85, 0.84),
                part("text", "Readings were taken every ten minutes.", 0.15, 0.87, 0.70, 0.90),
                part("text", "Storm days were left out; see the log.", 0.15, 0.905, 0.70, 0.935),
            ],
        )


class Leisurely(Scholar):
    """Takes four seconds for each page."""

    seconds = 4.0


class Hostile(Scholar):
    """Writes everything that could do harm in a browser."""

    def write(self, page: PageImage) -> PageText:
        labels = ['<img src=x onerror="window.__pwned=1">', "image", "line"]
        boxes = [(0, 0, page.width // 2, page.height // 2), (1, 1, 9, 9), (0, 0, page.width, page.height)]
        texts = ["<script>window.__pwned=2</script>", "", "The end of the hostile page."]
        return PageText(HOSTILE, [TextBlock(*each) for each in zip(labels, texts, boxes, strict=True)])
