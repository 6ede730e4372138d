"""Forward mode: the derivatives of the state travel with the training (Franceschi et al. 2017, Algorithm 2; for long
trainings Micaelli, Storkey 2021).

With state s_{t+1} = Φ_t(s_t, λ) and a tangent z_k = ∂s_t/∂λ_k for each value λ_k, of weights and moments alike,

    z_k ← (∂Φ_t/∂s) z_k + ∂Φ_t/∂λ_k ,       ∂f/∂λ_k = ⟨∇f(w_T), the weights of z_k⟩

Nothing of the past is kept. Each step is done plainly, so that the training has its own digits, and recorded once more:
Jᵀu, which is linear in u, as a graph of u. The derivative of that graph along z is J z, for as many z as there are
(double backward; Townsend 2017): no layer of a network needs a forward derivative of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from hpo.hypergradients.adjoint import blamed
from hpo.hypergradients.kept import Kept, States, ahead, recall, replace
from hpo.hypergradients.training import (
    GRADIENT_OF_STEP,
    Charge,
    Derivative,
    Following,
    Training,
    family,
    state_bytes,
    validation_evaluations,
    validation_gradient,
)
from solvers.solver import State
from solvers.vectors import Tensors, leaves, rebuild, unflatten

TANGENT = 2.0
"""Gradient evaluations charged for taking a tangent through a recorded step, as arithmetic has it: both factors of each
of a gradient's products move. Measured 1.2-1.6 on 784-50-50-50-10 at batch 100, 2.5-2.8 with 500 units a layer."""


class Forward:
    """The derivative of the training as it was run, minibatches included, for few values: equal to `exact`.

    Any hyperparameter of any solver whose step is differentiable. `chunk`: how many tangents go through a step at a
    time. `most`: how many values are allowed. Raises ValueError if one of them is below 1.
    The values of a schedule have no tangent before their step, and cost nothing until then.
    Cost, in gradient evaluations: 4 T, and 2 for each tangent and step. Memory, whatever T is: a state for each value
    and two for each of a chunk.
    """

    def __init__(self, *, chunk: int = 8, most: int = 100) -> None:
        for name, count in (("chunk", chunk), ("most", most)):
            if count < 1:
                raise ValueError(f"{name} {count} must be 1 or more")
        self.chunk, self.most = chunk, most

    def charge(self, training: Training, weights: Tensors, hyper: Tensors) -> Charge:
        """See the class. Raises ValueError for more than `most` values."""
        found = entries(training.sought(hyper), training.steps)
        if len(found) > self.most:
            counts = Counter(family(entry.key) for entry in found)
            named = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
            raise ValueError(
                f"forward carries a tangent for every value, here {len(found)} of {named}, and at most {self.most}: "
                "use exact or drmad, or set a higher `most`"
            )
        tangents = sum(max(0, training.steps - entry.first) for entry in found)
        evaluations = GRADIENT_OF_STEP * training.evaluations(training.steps) + TANGENT * training.evaluations(tangents)
        states = len(found) + 2 * min(self.chunk, len(found))
        return Charge(evaluations + validation_evaluations(training), states * state_bytes(training, weights, hyper))

    def follow(
        self,
        training: Training,
        weights: Tensors,
        hyper: Tensors,
        stops: Collection[int] = (),
        kept: Kept | None = None,
    ) -> Following:
        """The training and its tangents, step by step."""
        state, chunks = start(training, weights, hyper, self.chunk)
        lasted = torch.zeros_like(height(chunks), dtype=torch.long)  # looked at once: a look waits for the device
        states = States(state, training.steps, kept)
        here, state = states.last, states[states.last]
        if here:
            lasted, chunks = handed_out(recall(states.kept, "tangents", here), chunks)
        for stop in ahead(here, {training.steps, *stops}):
            states.only()  # what is kept is let go until the next stop: no tangent is there twice
            replace(states.kept, "tangents", stop, [])
            for t in range(here, stop):
                state = advance(training, state, hyper, chunks, t)
                lasted = lasted + torch.isfinite(height(chunks))  # what is not finite stays so
            states[stop] = state
            states.only(stop)
            replace(states.kept, "tangents", stop, [lasted, *(z for chunk in chunks for z in chunk.tangents)])
            here = stop
            yield stop, state
        slopes = products(validation_gradient(training, state.weights), state, chunks)
        gradient = unflatten(slopes, training.sought(hyper))
        exploded = int(lasted)
        return Derivative(gradient, {"exploded": exploded} if exploded < training.steps else {})


class Entry(NamedTuple):
    """One value: its key, its place in that tensor and among all values, and the first step that sees it."""

    key: str
    place: int
    number: int
    first: int


def entries(hyper: Tensors, steps: int) -> list[Entry]:
    """All values, in the order of the names. A schedule of fewer rows than steps is spread over them evenly."""
    found = list[Entry]()
    for key, x in hyper.items():
        rows = len(x) if key.endswith("[t]") else 1
        together, lasting = x.numel() // rows, max(rows, steps)
        firsts = [0 if rows == 1 else -(-(place // together) * lasting // rows) for place in range(x.numel())]
        found += [Entry(key, place, len(found) + place, first) for place, first in enumerate(firsts)]
    return found


class Chunk(NamedTuple):
    """Entries in the order of their first steps; their unit vectors by key, `[K, …]`; the tangents of each leaf of the
    state, `[k, …]`, of the k entries that have been seen.
    """

    entries: Sequence[Entry]
    units: Tensors
    tangents: Sequence[Tensor]


def start(training: Training, weights: Tensors, hyper: Tensors, size: int) -> tuple[State, list[Chunk]]:
    """The first state, and its tangents in chunks: those of initial_scale are not zero."""
    first, sought = training.batches(0), training.sought(hyper)
    graphs = recorded(lambda _, knobs: training.solver.init(weights, {**hyper, **knobs}, first), [], sought)
    found = sorted(entries(sought, training.steps), key=lambda entry: entry.first)
    parts = [found[i : i + size] for i in range(0, len(found), size)]
    chunks = [through(graphs, Chunk(part, units(sought, part), []), 0) for part in parts]
    return training.solver.init(weights, hyper, first), chunks


def handed_out(kept: Sequence[Tensor], chunks: Sequence[Chunk]) -> tuple[Tensor, list[Chunk]]:
    """What lasted, and the chunks with the tangents that were kept after it, one chunk's after the other's."""
    each = (len(kept) - 1) // max(1, len(chunks))
    parts = [kept[1 + i * each : 1 + (i + 1) * each] for i in range(len(chunks))]
    return kept[0], [chunk._replace(tangents=part) for chunk, part in zip(chunks, parts, strict=True)]


def advance(training: Training, state: State, hyper: Tensors, chunks: list[Chunk], t: int) -> State:
    """Step t. The chunks are replaced in their list one by one, so that no more than one is there twice."""
    batch = training.batches(t)

    def step(before: Sequence[Tensor], knobs: Tensors) -> State:
        return training.solver.step(rebuild(state, before), {**hyper, **knobs}, batch)

    with blamed(t):
        graphs = recorded(step, leaves(state), training.sought(hyper))
        for i, chunk in enumerate(chunks):
            chunks[i] = through(graphs, chunk, t)
    with torch.no_grad():
        return training.solver.step(state, hyper, batch)


def units(hyper: Tensors, part: Sequence[Entry]) -> dict[str, Tensor]:
    """∂λ/∂λ_k of some entries, by key `[K, …]`."""
    found = dict[str, Tensor]()
    for row, entry in enumerate(part):
        x = hyper[entry.key]
        found.setdefault(entry.key, x.new_zeros(len(part), x.numel()))[row, entry.place] = 1
    return {key: unit.reshape(len(part), *hyper[key].shape) for key, unit in found.items()}


class Graphs(NamedTuple):
    """Jᵀu of a function (s, λ) → s' at a point, as graphs of u = `probes`: by leaf of s, and by key of λ."""

    probes: Sequence[Tensor]
    by_leaf: Sequence[Tensor]
    by_key: Tensors


def recorded(
    function: Callable[[Sequence[Tensor], Tensors], State], before: Sequence[Tensor], hyper: Tensors
) -> Graphs:
    """Cost of a step: four gradient evaluations (`GRADIENT_OF_STEP`)."""
    with torch.enable_grad():
        points = [x.detach().requires_grad_() for x in before]
        knobs = {key: x.detach().requires_grad_() for key, x in hyper.items()}
        after = leaves(function(points, knobs))
        probes = [torch.zeros_like(x, requires_grad=True) for x in after]
        pairs = [(x, u) for x, u in zip(after, probes, strict=True) if x.requires_grad]
        found = torch.autograd.grad(
            [x for x, _ in pairs], [*points, *knobs.values()], [u for _, u in pairs],
            create_graph=True, materialize_grads=True,
        )  # fmt: skip
    return Graphs(probes, found[: len(points)], dict(zip(knobs, found[len(points) :], strict=True)))


def through(graphs: Graphs, chunk: Chunk, t: int) -> Chunk:
    """The tangents of a chunk after step t. Cost: two gradient evaluations each (`TANGENT`)."""
    count = sum(entry.first <= t for entry in chunk.entries)
    before = [grown(z, count) for z in chunk.tangents]
    pairs = [*zip(graphs.by_leaf, before, strict=True)]
    pairs += [(graphs.by_key[key], unit[:count]) for key, unit in chunk.units.items()]
    pairs = [(graph, z) for graph, z in pairs if graph.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(graphs.probes)
    if count and pairs:
        found = torch.autograd.grad(
            [graph for graph, _ in pairs], graphs.probes, [z for _, z in pairs],
            retain_graph=True, allow_unused=True, is_grads_batched=True,
        )  # fmt: skip
    after = [u.new_zeros(count, *u.shape) if z is None else z for u, z in zip(graphs.probes, found, strict=True)]
    return chunk._replace(tangents=after)


def grown(rows: Tensor, count: int) -> Tensor:
    """`count` rows, the new ones 0."""
    missing = count - len(rows)
    return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])]) if missing else rows


def height(chunks: Sequence[Chunk]) -> Tensor:
    """The largest number among all tangents: not finite where one is not."""
    return get_total_norm([z for chunk in chunks for z in chunk.tangents if len(z)], math.inf)


def products(slopes: Tensors, state: State, chunks: Sequence[Chunk]) -> Tensor:
    """⟨slopes, the weights of z_k⟩ in float64, 0 for values that no step has seen, in the order of the names."""
    some = next(iter(slopes.values()))
    found = some.new_zeros(sum(len(chunk.entries) for chunk in chunks), dtype=torch.float64)
    for chunk in chunks:
        moved = rebuild(state, chunk.tangents).weights
        values = [torch.tensordot(moved[n].double(), slope.double(), slope.dim()) for n, slope in slopes.items()]
        seen = [entry.number for entry in chunk.entries[: len(values[0])]]
        found[seen] = torch.stack(values).sum(dim=0)
    return found
