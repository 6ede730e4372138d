"""How a process computes what a study trains: threads, precision, repeatable operations, and its part of a card."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable

import torch
from torch import Tensor

from hpo.resources import Resources
from hpo.spec import Study
from solvers.vectors import Tensors

Forward = Callable[[Tensors, Tensor], Tensor]

GIB = 2**30

ELSEWHERE = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
"""How CUDA's libraries say that there was no room for their own."""


def settle(study: Study) -> None:
    """Threads, precision, determinism and part of a card of this process, whatever the study before had.

    A float32 product is one only without TF32, which convolutions would take by themselves.
    """
    torch.set_num_threads(study.resources.cpus)
    tf32 = study.training.precision == "tf32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    if study.training.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    if torch.are_deterministic_algorithms_enabled() != study.training.deterministic:  # to say so loads torch's compiler
        torch.use_deterministic_algorithms(study.training.deterministic)
    limit(study.resources, alone=False)


def lowered(forward: Forward, device: str) -> Forward:
    """The same network with bfloat16 products; weights, outputs and what is derived from them stay float32."""

    def low(weights: Tensors, inputs: Tensor) -> Tensor:
        # without the cache: it would keep a cast weight beyond the transformation (grad, vmap) that it is part of
        with torch.autocast(device, torch.bfloat16, cache_enabled=False):
            outputs = forward(weights, inputs)
        return outputs.float()

    return low


def limit(resources: Resources, alone: bool) -> None:
    """This process's part of its cards: `gpu_memory`, else its share; all of them when nobody else is there.

    More than that is out of memory for this process, not for its neighbours.
    """
    for card in range(torch.cuda.device_count() if resources.gpus else 0):
        total = torch.cuda.get_device_properties(card).total_memory
        torch.cuda.set_per_process_memory_fraction(part(resources, total, alone), card)


def part(resources: Resources, total: int, alone: bool) -> float:
    """Of a card of so many bytes, between 0 and 1."""
    if alone:
        return 1.0
    if resources.gpu_memory is not None:
        return min(1.0, resources.gpu_memory * GIB / total)
    return min(1.0, resources.gpus)


def release() -> None:
    """Give back to the cards what nothing holds any more."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def short(error: BaseException) -> str | None:
    """What a card had no room for, in a few words; None for any other error."""
    said = " ".join(str(error).split())
    if not isinstance(error, torch.OutOfMemoryError) and not any(sign in said for sign in ELSEWHERE):
        return None
    asked = re.search(r"Tried to allocate ([\d.]+ \w+)", said)
    words = f"asked for {asked[1]}" if asked else said.partition(". ")[0]
    return words + (f", {_in_use()} in use" if torch.cuda.is_initialized() else "")


def _in_use() -> str:
    free, total = torch.cuda.mem_get_info()
    return f"{(total - free) / GIB:.1f} of {total / GIB:.1f} GiB"
