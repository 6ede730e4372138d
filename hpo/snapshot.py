"""What a training keeps (`hpo.hypergradients.kept`) ↔ numpy arrays for a database: every bit, and where it lay.

A product of matrices may round otherwise where one of them is transposed or begins in the middle of a cache line, so a
training only goes on with the same digits if each tensor lies in memory as it did. One that does not lie plainly has a
second array, "NAME|layout": how many numbers after a cache line it begins, its shape, its strides. "NAME|bfloat16" are
the bits of a type that numpy does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solvers.vectors import Tensors

Named = Mapping[str, NDArray[Any]]

LINE = 64
"""Bytes of a cache line, at the start of which torch puts what it makes."""
LAYOUT, BFLOAT16 = "|layout", "|bfloat16"
TYPES = {
    torch.float16, torch.float32, torch.float64, torch.bfloat16,
    torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool,
}  # fmt: skip


def arrays(tensors: Tensors) -> dict[str, NDArray[Any]]:
    """The arrays to put away, each in C order. Raises ValueError naming a tensor of a type that has no array."""
    found = dict[str, NDArray[Any]]()
    for name, x in tensors.items():
        if x.dtype not in TYPES:
            known = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in TYPES))
            raise ValueError(f"{name} is of {x.dtype}, which cannot be put away: use one of {known}")
        layout = _layout(x)
        lean = x.detach()
        if layout is not None:
            found[name + LAYOUT] = np.array(layout, dtype=np.int64)
            lean = lean.as_strided(_lean(x.shape, x.stride()), x.stride())
        lean = lean.cpu().contiguous()
        if x.dtype is torch.bfloat16:
            found[name + BFLOAT16] = lean.view(torch.int16).numpy()
        else:
            found[name] = lean.numpy()
    return found


def tensors(arrays: Named, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The inverse of `arrays`: copies, on `device`."""
    found = dict[str, Tensor]()
    for name, array in arrays.items():
        if name.endswith(LAYOUT):
            continue
        x = torch.tensor(array, device=device)
        if name.endswith(BFLOAT16):
            x = x.view(torch.bfloat16)
        name = name.removesuffix(BFLOAT16)
        layout = arrays.get(name + LAYOUT)
        found[name] = x if layout is None else _laid_out(x, layout.tolist())
    return found


def _layout(x: Tensor) -> list[int] | None:
    """What to say of where x lies; None if it lies as a new tensor of its shape would."""
    lead = x.data_ptr() % LINE // x.element_size()
    plain = lead == 0 and x.stride() == torch.empty(x.shape, device="meta").stride()
    return None if plain or x.numel() == 0 else [lead, *x.shape, *x.stride()]


def _laid_out(x: Tensor, layout: list[int]) -> Tensor:
    lead, rest = layout[0], layout[1:]
    shape, strides = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    lean = _lean(shape, strides)
    length = lead + 1 + sum((count - 1) * stride for count, stride in zip(lean, strides, strict=True))
    return x.new_empty(length).as_strided(lean, strides, lead).copy_(x).expand(shape)


def _lean(shape: tuple[int, ...] | list[int], strides: tuple[int, ...] | list[int]) -> list[int]:
    """Once what is repeated."""
    return [1 if stride == 0 else count for count, stride in zip(shape, strides, strict=True)]
