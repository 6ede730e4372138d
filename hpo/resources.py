"""Where trainings run: the part of a study file that does not change what they give."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from hpo.choices import Number, Whole


class Resources(BaseModel, frozen=True, extra="forbid"):
    """How many trainings run at once, and what each may use.

    `cpus`: cores, which is how many threads BLAS has. `gpus`: a share of one card (0.25: four trainings share it), or,
    from 1 on, whole cards that nobody else gets; `device: cuda` is short for one. `gpu_memory`: GiB on each card, the
    share of it if None. `checkpoint`: seconds after which a training under way is saved again. `replicas`: how many
    trainings a worker trains as one where `execution` is batched; measured if None.
    """

    workers: Whole = Field(1, ge=1)
    cpus: Whole = Field(1, ge=1, le=1024)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpus: Number = Field(0.0, ge=0.0, allow_inf_nan=False)
    gpu_memory: Number | None = Field(None, gt=0.0, allow_inf_nan=False)
    checkpoint: Number = Field(30.0, ge=0.0)
    replicas: Whole | None = Field(None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _one_card(cls, given: Any) -> Any:
        short = isinstance(given, dict) and given.get("device") == "cuda" and "gpus" not in given
        return {**given, "gpus": 1.0} if short else given

    @field_validator("gpus")
    @classmethod
    def _whole_cards(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus:g} is neither a share of one card (between 0 and 1) nor a number of whole ones")
        return gpus

    @model_validator(mode="after")
    def _agree(self) -> Resources:
        if self.device == ("cpu" if self.gpus else "cuda"):
            raise ValueError(f"device: {self.device} with gpus: {self.gpus:g}: leave one of the two out")
        if self.gpu_memory is not None and not self.gpus:
            raise ValueError(f"gpu_memory: {self.gpu_memory:g} without a GPU: give gpus, the share of a card")
        return self

    @property
    def on(self) -> Literal["cpu", "cuda"]:
        """Where tensors are: `auto` is a GPU if one is asked for."""
        return "cuda" if self.gpus else "cpu"
