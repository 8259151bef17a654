"""Calculates what a card's memory and its slot allow: tokens a second, and seconds to place the weights. Needs no card.

A decode step reads each weight that it needs once, and the keys and values of every row. The experts that a step of
several rows hits are counted as if the router chose evenly, which random weights do and real pages nearly do.
"""

from __future__ import annotations

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
    "A100 80 GB": 2039,
    "RTX 4090": 1008,
    "A10": 600,
    "T4": 320,
    "RTX 3060": 360,
}
"""GB/s, as their makers say."""
SLOTS: Final = {"PCIe 5, 16 lanes": 55.0, "PCIe 4, 16 lanes": 25.0, "PCIe 3, 16 lanes": 12.0}
"""GB/s that copies from pinned memory reach, of 63, 32 and 16."""
BATCHES: Final = (1, 4, 16, 32)


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


def slot_bounds() -> str:
    """Seconds to place the weights, by slot."""
    return table(("slot", "s to place all weights"), [(slot, f"{WEIGHTS_GB / gbs:.2f}") for slot, gbs in SLOTS.items()])


def bounds() -> str:
    """Three tables: tokens a second by card and batch for two models, seconds by slot."""
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
        ]
    )


if __name__ == "__main__":
    print(bounds())
