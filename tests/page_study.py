"""Studies with everything a page shows, written by hand: image inputs, hypergradients, curves, failures, a running one.

fill(ledger, "digits")            # 2 methods, 6 seeds
fill(ledger, "many", trials=500)  # any number of trials
"""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from typing import Any

import numpy as np

from hpo.space import Group, Piece, Space
from hpo.spec import Study
from hpo.storage.claims import Terms
from hpo.storage.leases import Lease
from hpo.storage.ledger import Ledger
from hpo.task import InputRow
from hpo.trial import Cost, Outcome, Proposal

FREE = Terms("trainings", 1e9, 1.0, 99)
SIDE, HIDDEN = 4, 3

NEURONS = Space(
    (
        Group(
            "l2", "neuron", 1e-6, 1.0, 1e-3, True, SIDE**2 + HIDDEN,
            (
                Piece("l2.0.weight", 0, SIDE**2, (1, SIDE**2)),
                Piece("l2.2.weight", SIDE**2, SIDE**2 + HIDDEN, (1, HIDDEN)),
            ),
        ),
        Group(
            "learning_rate", "layer", 1e-3, 1.0, 0.05, True, 2,
            (Piece("learning_rate.0.weight", 0, 1, (1, 1)), Piece("learning_rate.2.weight", 1, 2, (1, 1))),
        ),
    )
)  # fmt: skip
GLOBAL = Space((Group("l2", "global", 1e-6, 1.0, 1e-3, True, 1, ()),))
IMAGE = InputRow((1, SIDE, SIDE))
TABLE = InputRow((SIDE**2,), tuple(f"column {i}" for i in range(SIDE**2)))


def study(name: str = "digits", **changes: Any) -> Study:
    content = {
        "name": name,
        "problem": {"data": "digits"},
        "training": {"steps": 60, "batch_size": 20},
        "space": {"l2": {"per": "neuron", "low": 1e-6, "high": 1.0, "default": 1e-3}, "learning_rate": {}},
        "methods": ["drmad", {"name": "random", "per": "global"}, {"name": "tpe", "per": "global"}],
        "budget": {"gradient_evaluations": 6000},
        "seeds": 6,
    }
    return Study.model_validate(content | changes)


def fill(ledger: Ledger, name: str, trials: int = 5, inputs: InputRow = IMAGE, **changes: Any) -> None:
    """A study with so many closed trials an arm, its first arm with one that runs."""
    given = study(name, **changes)
    ledger.begin(given, {"python": "3.11", "hpo": "0.1"})
    arms = list(enumerate(given.arms()))
    for half in (arms[::2], arms[1::2]):
        with ledger.attend(name, slots=2) as lease:
            for a, arm in half:
                led = arm.method.name == "drmad"
                ledger.describe(name, arm.label, NEURONS if led else GLOBAL, {}, inputs)
                random = np.random.default_rng([a, arm.seed])
                for number in range(trials):
                    proposal = _proposal(number, led, random)
                    claim = ledger.claim(lease, arm.label, proposal, 0.01, FREE)
                    assert claim is not None
                    assert ledger.close_trial(claim, _outcome(proposal, a, random))
                if a:
                    ledger.finish(name, arm.label, "complete")
                else:
                    assert ledger.claim(lease, arm.label, _proposal(trials, led, random), 0.01, FREE) is not None


def close(ledger: Ledger, lease: Lease, label: str, number: int, loss: float) -> None:
    """One more trial of an arm, complete."""
    proposal = Proposal(number, {"l2": np.full(SIDE**2 + HIDDEN, 1e-2), "learning_rate": np.full(2, 0.1)}, "drmad")
    claim = ledger.claim(lease, label, proposal, 0.01, FREE)
    assert claim is not None
    curve = np.array([[20.0, loss, loss]])
    assert ledger.close_trial(claim, Outcome("complete", loss, loss, 0.9, curve=curve, cost=Cost(1, 600.0, 0.5)))


def multiply(url: str, times: int) -> None:
    """Every closed trial of an SQLite database again and again, half a second later each time."""
    shifted = "strftime('%Y-%m-%d %H:%M:%f', {}, (:k * 0.5) || ' seconds')"
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE hpo_trial SET number = 1000000 + number WHERE state = 'running'")
        columns = [row[1] for row in connection.execute("PRAGMA table_info(hpo_trial)")][2:]
        [(first,)] = connection.execute("SELECT max(id) FROM hpo_trial")
        [(step,)] = connection.execute("SELECT max(number) + 1 FROM hpo_trial WHERE closed IS NOT NULL")
        new = {"number": "number + :k * :step", "opened": shifted.format("opened"), "closed": shifted.format("closed")}
        names, taken = ", ".join(columns), ", ".join(new.get(column, column) for column in columns)
        for k in range(1, times):
            given = {"k": k, "step": step, "first": first}
            connection.execute(
                f"INSERT INTO hpo_trial (id, arm_id, {names}) SELECT id + :k * :first, arm_id, {taken} "
                "FROM hpo_trial WHERE id <= :first AND closed IS NOT NULL", given,
            )  # fmt: skip
            connection.execute(
                "INSERT INTO hpo_array SELECT trial_id + :k * :first, name, position, dtype, shape, codec, data "
                "FROM hpo_array WHERE trial_id IN (SELECT id FROM hpo_trial WHERE id <= :first AND closed IS NOT NULL)",
                given,
            )


def _proposal(number: int, led: bool, random: np.random.Generator) -> Proposal:
    if not led:
        return Proposal(number, {"l2": 10 ** random.uniform(-5, -1, 1)})
    spread = min(number, 4) * np.linspace(-0.5, 0.5, SIDE**2 + HIDDEN) + random.normal(0, 0.1, SIDE**2 + HIDDEN)
    values = {"l2": 1e-3 * 10**spread, "learning_rate": np.array([0.05, 0.05 + 0.01 * min(number, 40)])}
    return Proposal(number, values, "drmad")


def _outcome(proposal: Proposal, arm: int, random: np.random.Generator) -> Outcome:
    """Trial 2 fails, trial 3 is pruned; the first method gets better by the trial, the others by chance."""
    cost = Cost(1, 600.0 + arm, 0.5)
    if proposal.number == 2:
        reason = f"diverged: it overflowed at step {random.integers(1, 60)} of 60 <b>&"
        return Outcome("failed", math.nan, math.nan, cost=cost, failure=reason)
    loss = float(random.uniform(0.4, 0.6))
    if proposal.derivative is not None:
        loss = 0.5 / (1 + proposal.number) + float(random.uniform(0, 0.01))
    curve = np.array([[20.0 * k, loss + 1 / k, loss + 0.5 / k] for k in (1, 2, 3)])
    if proposal.number == 3:
        return Outcome("pruned", loss, math.nan, curve=curve, cost=cost, failure="median pruner at step 20")
    gradient = {name: random.normal(0, 1, v.shape) for name, v in proposal.values.items()}
    led = proposal.derivative is not None
    return Outcome(
        "complete", loss, 1.1 * loss, 1 - loss, curve=curve, cost=cost, hypergradient=gradient if led else None,
        report={"movement": 0.3},
    )  # fmt: skip
