"""Counts the bytes of the tensors that live while a model computes; on torch's meta device, where none takes memory.

with torch.inference_mode(), LiveBytes() as live:
    model(...)
print(live.most)
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

SWEEP_BYTES = 256 << 20


class LiveBytes(TorchDispatchMode):
    """Counts each storage once, from the operation that makes it until nothing refers to it any more."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.most = 0
        self._swept = 0
        self._known: dict[int, weakref.ref[Any]] = {}
        self._attention = Attention()

    def __enter__(self) -> LiveBytes:
        self._attention.__enter__()
        return super().__enter__()

    def __exit__(self, *failure: Any) -> None:
        super().__exit__(*failure)
        self._attention.__exit__(*failure)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = _on_one_device((args, kwargs or {}))
        given = {id(tensor.untyped_storage()) for tensor in tensors((args, kwargs))}
        result = func(*args, **kwargs)
        for tensor in tensors(result):
            storage = tensor.untyped_storage()
            if id(storage) not in given and id(storage) not in self._known:
                self._count(storage)
        self.most = max(self.most, self.now)
        return result

    def _count(self, storage: Any) -> None:
        key, size = id(storage), storage.nbytes()
        self.now += size
        if self.now > self._swept + SWEEP_BYTES:  # tensors in reference cycles are garbage, and no need of a reading
            gc.collect()
            self._swept = self.now

        def gone(_: Any) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, gone)


class Attention(TorchFunctionMode):
    """Attention as a card computes it: the scores of a query are never all in memory (flash, memory-efficient)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            query, value = args[0], args[2]
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return func(*args, **(kwargs or {}))


def _on_one_device(values: Any) -> Any:
    """With a tensor on the meta device, all are there: places in a picture are computed from sizes on the host."""
    if len({tensor.is_meta for tensor in tensors(values)}) < 2:
        return values

    def moved(value: Any) -> Any:
        return (
            torch.empty_like(value, device="meta") if isinstance(value, torch.Tensor) and not value.is_meta else value
        )

    return tree_map(moved, values)


def tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_flatten(values)[0] if isinstance(value, torch.Tensor)]
