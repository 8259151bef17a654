"""Computes the experts of a decode step in a way that every card can record as a CUDA graph.

`grouped_mm`, which transformers takes by default, is fast on sm_90 and sm_100 in bfloat16 only. Elsewhere torch copies
the offsets of the experts to the host and starts one product for each: 22 waits for each token, and none of them may be
inside a CUDA graph. Here a step of few rows gathers the weights of the experts that its rows chose (`batched_mm`). A
step of more rows runs all experts over all rows and takes the products of the chosen ones. Neither method waits for the
card, and no shape depends on the choice of the router.

A prompt goes to `grouped_mm`: to run all experts would cost ten times the arithmetic there. The 22 waits do not matter
in a step of thousands of tokens, and a prompt is never recorded.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import linear
from transformers.integrations.moe import (
    ALL_EXPERTS_FUNCTIONS,
    batched_mm_experts_forward,
    grouped_mm_experts_forward,
)

__all__ = ["EXPERTS", "MOST_DECODE_ROWS", "all_experts", "experts_forward", "is_gathered", "use_recordable_experts"]

EXPERTS: Final = "deepseek_ocr_mcp_recordable"
"""The name under which transformers knows `experts_forward`."""

MOST_DECODE_ROWS: Final = 32
"""Rows of the largest decode step. A prompt is longer: a page has 73 vectors at least. To be wrong costs time only."""

TRAFFIC_OF_GATHERING: Final = 3
"""How often `batched_mm` moves a chosen expert's weights through memory: read, written as a copy, read again.

All experts are read once. So gathering is cheaper while 3 x chosen experts x rows is at most the number of experts:
with 6 of 64 up to 3 rows (18 x 3 = 54). Counted from the sources of transformers 5.24, not measured on a card; on a
card whose cache holds the copies the crossover is later, and a step near it is slower by a third at most.
"""


def experts_forward(
    self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Apply to each token the experts that the router chose for it; for `ALL_EXPERTS_FUNCTIONS` of transformers.

    Args:
        self: the module with `gate_up_proj`, `(experts, 2 * inner, size)`, and `down_proj`, `(experts, size, inner)`.
        hidden_states: `(tokens, size)`.
        top_k_index: `(tokens, chosen)`, the numbers of the experts.
        top_k_weights: `(tokens, chosen)`, float32.

    Returns:
        `(tokens, size)` in the dtype of `hidden_states`.
    """
    if len(hidden_states) > MOST_DECODE_ROWS:
        forward = grouped_mm_experts_forward
    elif is_gathered(len(hidden_states), top_k_index.shape[-1], self.num_experts):
        forward = batched_mm_experts_forward
    else:
        forward = all_experts
    computed: torch.Tensor = forward(self, hidden_states, top_k_index, top_k_weights)
    return computed


def is_gathered(rows: int, chosen: int, experts: int) -> bool:
    """Whether gathering the weights of the chosen experts moves less memory than reading all of them once.

    Args:
        rows: of the step.
        chosen: experts for each row.
        experts: in all.
    """
    return TRAFFIC_OF_GATHERING * chosen * rows <= experts


def all_experts(
    self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Run every expert over every row, and weigh and add those that the router chose; see `experts_forward`.

    The experts that were not chosen are left out rather than weighed with 0: where one of them overflows, a zero
    times infinity would be no number. Rows are added in the order of `top_k_index`, as `batched_mm` does.
    """
    rows, size = hidden_states.shape
    both = linear(hidden_states, self.gate_up_proj.view(-1, size)).view(rows, self.num_experts, -1)
    inner = self._apply_gate(both).transpose(0, 1)  # (experts, rows, inner)
    outer = torch.bmm(inner, self.down_proj.transpose(1, 2)).transpose(0, 1)  # (rows, experts, size)
    chosen = outer.gather(1, top_k_index[..., None].expand(-1, -1, size))
    return (chosen * top_k_weights[..., None]).sum(1).to(hidden_states.dtype)


def use_recordable_experts(model: nn.Module) -> None:
    """Let the language model of a `checkpoint.Checkpoint` compute its experts with `experts_forward`.

    For a model on a card. On a CPU nothing is recorded, and `grouped_mm` is fastest at 1, 4 and 16 rows: at 16 it takes
    0.64 of the time of `all_experts`, which takes 0.09 of the time of `batched_mm` (a layer of v1, bfloat16).
    """
    transformers_model: Any = model
    transformers_model.set_experts_implementation(EXPERTS)


ALL_EXPERTS_FUNCTIONS.register(EXPERTS, experts_forward)
