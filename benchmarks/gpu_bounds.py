"""Calculates what a card's memory and its slot allow: tokens a second, and seconds to place the weights. Needs no card.

A decode step reads each weight that it needs once, and the keys and values of every row. The experts that a step of
several rows hits are counted as if the router chose evenly, which random weights do and real pages nearly do.

The estimate against vLLM adds what a bound leaves out: the share of the bandwidth that reads reach, the time between
two kernels, the host's work for a step, and looking at the pages. Each of these is a constant below, with its source.
"""

from __future__ import annotations

import re
from typing import Final

from common import table

HIDDEN: Final = 1280
LAYERS: Final = 12  # one of them dense
EXPERTS: Final = 64
CHOSEN: Final = 6  # of them, by each row
INNER: Final = 896  # of an expert; the two shared ones are as large
DENSE: Final = 6848
VOCABULARY: Final = 129_280
BYTES: Final = 2  # bfloat16
CONTEXT: Final = 1700  # tokens: a prompt of 903 and half of a long page
WEIGHTS_GB: Final = 6.671

LIGHTON_GB: Final = 1.192  # 28 layers and the head, which is tied: read in each step, whatever its rows are
LIGHTON_KEPT: Final = 114_688  # bytes of keys and values of a token
LIGHTON_CONTEXT: Final = 3100  # tokens: an A4 page at 1540 pixels has 2145, and half of a long text

CARDS: Final = {
    "H200": 4800,
    "H100": 3350,
    "A100 80GB": 2039,
    "RTX 4090": 1008,
    "A10": 600,
    "T4": 320,
    "RTX 3060": 360,
}
"""GB/s, as their makers say."""
SLOTS: Final = {"PCIe 5, 16 lanes": 55.0, "PCIe 4, 16 lanes": 25.0, "PCIe 3, 16 lanes": 12.0}
"""GB/s that copies from pinned memory reach, of 63, 32 and 16."""
BATCHES: Final = (1, 4, 16, 32)

REACHED: Final = 0.8  # of the maker's bandwidth, by reads of whole weights; assumed
KERNELS: Final = 640  # of a step: 619 operations counted on torch's meta device, and the parts of attention
KERNEL_S: Final = 2e-6  # from one small kernel of a recorded step to the next; assumed
HOST_S: Final = 1.5e-4  # of a step between two replays: 0.08 ms at 32 rows on a CPU; as much again to wait and copy
GUARD_S: Final = 4e-6  # of the loop guard for a token; measured by decode.py
LOOKING_TFLOP: Final = 3.47  # the page and six tiles, counted on torch's meta device
PROMPT_TFLOP: Final = 0.79  # 907 tokens: 0.38 counted, and the experts that grouped products compute
TFLOPS: Final = {"H200": 989, "H100": 989, "A100 80GB": 312, "RTX 4090": 165}
"""Of dense products in bfloat16, as their makers say."""
COMPUTED: Final = 0.35  # of it, by vision towers and prompts; assumed
PAGE_TOKENS: Final = 1500
VLLM_RATE: Final = 2500 / 1555
"""Tokens a second of vLLM for each GB/s: 2500 on an A100 of 40 GB, side by side, as the README of DeepSeek-OCR says."""
OF_VLLM: Final = 0.8  # that ours is to reach


def experts_hit(rows: int) -> float:
    """How many of a layer's experts a step of so many rows reads."""
    return EXPERTS * (1 - (1 - CHOSEN / EXPERTS) ** rows)


def step_gb(rows: int, context: int = CONTEXT) -> float:
    """GB that a decode step reads."""
    attention = 4 * HIDDEN * HIDDEN * LAYERS
    dense = 3 * HIDDEN * DENSE
    shared = 2 * 3 * HIDDEN * INNER * (LAYERS - 1)
    chosen = experts_hit(rows) * 3 * HIDDEN * INNER * (LAYERS - 1)
    head = VOCABULARY * HIDDEN
    kept = 2 * LAYERS * HIDDEN * context * rows
    return BYTES * (attention + dense + shared + chosen + head + kept) / 1e9


def lighton_step_gb(rows: int) -> float:
    """GB that a decode step of LightOnOCR reads, which has no experts."""
    return LIGHTON_GB + LIGHTON_KEPT * LIGHTON_CONTEXT * rows / 1e9


def card_rate(name: str) -> int | None:
    """GB/s of a card by the name that its driver gives; None where it is not in `CARDS`."""
    for card, rate in CARDS.items():
        if all(re.search(rf"\b{word}\b", name, re.IGNORECASE) for word in card.split()):
            return rate
    return None


def estimate(card: str) -> tuple[float, float, float]:
    """Tokens a second at 32 rows while pages are written, the same with looking at them, and those of vLLM."""
    rows = max(BATCHES)
    step_s = step_gb(rows) / (REACHED * CARDS[card]) + KERNELS * KERNEL_S + HOST_S + GUARD_S * rows
    looking_s = (LOOKING_TFLOP + PROMPT_TFLOP) / (COMPUTED * TFLOPS[card])
    page_s = PAGE_TOKENS * step_s / rows + looking_s
    return rows / step_s, PAGE_TOKENS / page_s, VLLM_RATE * CARDS[card]


def estimates() -> str:
    """The table against vLLM, calculated."""
    rows = []
    for card in TFLOPS:
        writing, whole, vllm = estimate(card)
        rows.append((card, f"{writing:.0f}", f"{whole:.0f}", f"{vllm:.0f}", f"×{whole / vllm:.2f}", f"≥ ×{OF_VLLM}"))
    heads = (
        "tokens/s at batch 32",
        "while it writes",
        "with looking at pages",
        "vLLM, scaled",
        "ours / vLLM",
        "target",
    )
    return table(heads, rows)


def slot_bounds() -> str:
    """Seconds to place the weights, by slot."""
    return table(("slot", "s to place all weights"), [(slot, f"{WEIGHTS_GB / gbs:.2f}") for slot, gbs in SLOTS.items()])


def bounds() -> str:
    """Four tables: tokens a second by card and batch for two models, seconds by slot, and the estimate against vLLM."""
    rows = [
        (card, f"{rate}", *(f"{rows * rate / step_gb(rows):.0f}" for rows in BATCHES)) for card, rate in CARDS.items()
    ]
    smaller = [
        (card, f"{rate}", *(f"{rows * rate / lighton_step_gb(rows):.0f}" for rows in BATCHES))
        for card, rate in CARDS.items()
    ]
    heads = ("GB/s", *(f"tokens/s at batch {rows}" for rows in BATCHES))
    moved = ", ".join(f"{step_gb(rows):.2f} at batch {rows}" for rows in BATCHES)
    return "\n\n".join(
        [
            table(("DeepSeek-OCR", *heads), rows),
            f"GB that a step reads: {moved}. At batch 16 it hits {experts_hit(16):.1f} of {EXPERTS} experts.",
            table(("LightOnOCR", *heads), smaller),
            slot_bounds(),
            "Calculated, not measured: nothing is faster than this, and kernels that wait for each other are slower.",
            estimates(),
            f"An estimate of DeepSeek-OCR with {PAGE_TOKENS} tokens a page, not a measurement: "
            f"{REACHED:.0%} of the bandwidth, {KERNELS} kernels of {KERNEL_S * 1e6:.0f} µs, {COMPUTED:.0%} of the "
            "arithmetic. vLLM's figure is 2500 tokens/s on an A100 of 40 GB (README of DeepSeek-OCR), times the "
            "bandwidth.",
        ]
    )


if __name__ == "__main__":
    print(bounds())
