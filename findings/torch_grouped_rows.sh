#!/usr/bin/env bash
# Experts in one product: torch's grouped_mm takes rows, one matrix an expert, and where each expert's rows end.
# A fixed shape leaves rows behind the last end.
# A good guess: these rows come out as zeros.
# Seen: they are never written: the result holds whatever the memory held before, so NaN can get into a sum.
. "$(dirname "$0")/common.sh"
python_with torch==2.13.0 numpy==2.4.6
python_runs <<'EOF'
import torch
from finding import as_described, versions

versions("torch")
rows, ends = torch.ones(256, 64), torch.tensor([100, 200], dtype=torch.int32)
experts = torch.stack([torch.eye(64), 2 * torch.eye(64)])
kinds = set()
for _ in range(20):
    before = torch.full((256, 64), 7.0)
    del before  # the allocator hands the same memory out again
    product = torch.nn.functional.grouped_mm(rows, experts, offs=ends)
    used = (product[:100] == 1).all().item() and (product[100:200] == 2).all().item()
    as_described("rows of experts", used, True) if not kinds else None
    kinds.add("zeros" if (product[200:] == 0).all() else "what was there")
as_described("rows behind the last end", "what was there" in kinds, True)
EOF
