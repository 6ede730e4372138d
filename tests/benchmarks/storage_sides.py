"""The two sides of the storage bench: studies in our ledger and in Optuna's RDBStorage, trial by trial.

A trial of ours is what the loop of `hpo.study` does with the ledger for it: where the arms stand, claim, close. One of
Optuna's is `ask` with fixed distributions and `tell`, with random search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
import optuna
import studies_small
from sqlalchemy import event, text

from hpo import study as loop
from hpo.execution.executor import done
from hpo.execution.serial import Serial
from hpo.preparation import Ready
from hpo.progress import Quiet
from hpo.space import Group, Piece, Space
from hpo.spec import Study
from hpo.storage.claims import Claim, Terms
from hpo.storage.leases import Lease
from hpo.storage.ledger import Ledger
from hpo.study import Watcher
from hpo.task import CURVE_POINTS, Plan
from hpo.trial import Array, Cost, Outcome, Proposal, Trial, Values

LOW, HIGH = 1e-6, 1.0
ENDLESS = 10**9
DRAWS = np.random.default_rng(0)


def names(count: int) -> list[str]:
    return [f"h{i}" for i in range(count)]


def drawn(*shape: int) -> Array:
    """Log-uniform: mantissas that do not compress."""
    return np.exp(DRAWS.uniform(math.log(LOW), math.log(HIGH), shape))


def study(name: str, *, hypers: int = 5, trials: int = ENDLESS, method: str = "random") -> Study:
    """One arm, random search over so many values."""
    space = {h: {"low": LOW, "high": HIGH, "default": 1e-3} for h in names(hypers)}
    return studies_small.study(name=name, space=space, methods=[method], seeds=1, budget={"trainings": trials})


def outcome(loss: float = 0.5, points: int = CURVE_POINTS, hypergradient: Values | None = None) -> Outcome:
    return Outcome("complete", loss, loss, 0.9, drawn(points, 3), Cost(1, 600.0, 1.0), hypergradient)


class Ours:
    """A run of a study of one arm in which `width` trials may be under way."""

    def __init__(self, ledger: Ledger, lease: Lease, width: int = 1) -> None:
        self.ledger, self.lease = ledger, lease
        self.terms = Terms("trainings", ENDLESS, 1.0, width)
        [self.arm] = ledger.standing(lease.study)

    def standing(self) -> int:
        """The number of the trial to come."""
        return self.ledger.standing(self.lease.study)[self.arm].next_number

    def claim(self, number: int, values: Values) -> Claim | None:
        """None if another process was faster."""
        return self.ledger.claim(self.lease, self.arm, Proposal(number, values), 0.0, self.terms)

    def trial(self, values: Values, came: Outcome) -> None:
        claim = self.claim(self.standing(), values)
        assert claim is not None
        assert self.ledger.close_trial(claim, came)

    def scalars(self, count: int, points: int = CURVE_POINTS) -> None:
        """So many trials of five values each."""
        for _ in range(count):
            self.trial({h: drawn(1) for h in names(5)}, outcome(points=points))

    def drain(self, last: int) -> None:
        """Until trial `last` is the one to come, whoever did the others."""
        while (number := self.standing()) < last:
            claim = self.claim(number, {h: drawn(1) for h in names(5)})
            if claim is not None:
                assert self.ledger.close_trial(claim, outcome())


def adopted(ledger: Ledger, name: str, hypers: int, count: int) -> None:
    """A study that has so many finished trials at once."""
    ledger.begin(study(name, hypers=hypers), {})
    [arm] = ledger.standing(name)
    trials = [Trial(Proposal(i, {h: drawn(1) for h in names(hypers)}), outcome(i + 1.0)) for i in range(count)]
    ledger.adopt(name, arm, trials, "elsewhere")


class Instant(Serial):
    """An executor that does not train: the loss is a bowl over the logarithms of the values."""

    def submit(self, function: Any, *args: Any, **named: Any) -> Future[Any]:
        del function, named
        values: Mapping[str, Array] = args[0].proposal.values
        return done(outcome, sum(float((np.log10(v) + 3) @ (np.log10(v) + 3)) for v in values.values()))


def run(ledger: Ledger, asked: Study, watcher: Watcher | None = None) -> None:
    """The loop over trainings that take no time."""
    groups = tuple(Group(h, "global", LOW, HIGH, 1e-3, True, 1, (Piece(h, 0, 1, (1,)),)) for h in asked.space)
    plan = Plan(Space(groups), 600.0, 0, {}, (1, 1, 1), 1)
    ready = Ready(asked, None, Instant(asked.resources), {arm.label: plan for arm in asked.arms()})
    loop.run(ready, ledger, watcher or Quiet(), {})


def storage(url: str, tuned: bool = False) -> optuna.storages.RDBStorage:
    """As it comes; `tuned`: with the journal and the syncing that our ledger sets on SQLite."""
    made = optuna.storages.RDBStorage(url)
    if tuned:
        event.listen(made.engine, "connect", _write_ahead)
        made.engine.dispose()
    return made


def _write_ahead(connection: Any, _: object) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL"):
        connection.execute(f"PRAGMA {pragma}").close()


class Theirs:
    """A study in Optuna's database, a new one unless it has the `name`."""

    def __init__(self, kept: optuna.storages.RDBStorage, name: str | None = None) -> None:
        self.storage = kept
        sampler = optuna.samplers.RandomSampler()
        self.study = optuna.create_study(storage=kept, sampler=sampler, study_name=name, load_if_exists=True)

    def scalars(self, count: int, params: int = 5) -> None:
        """So many trials of so many parameters each."""
        space: dict[str, Any] = {h: optuna.distributions.FloatDistribution(LOW, HIGH, log=True) for h in names(params)}
        for _ in range(count):
            self.study.tell(self.study.ask(space), 0.5)

    def optimize(self, count: int) -> None:
        self.study.optimize(lambda trial: sum(trial.suggest_float(h, LOW, HIGH, log=True) for h in names(5)), count)

    def attribute(self, length: int) -> None:
        """A trial whose only content is a list of so many floats."""
        trial = self.study.ask()
        trial.set_user_attr("vector", drawn(length).tolist())
        self.study.tell(trial, 0.5)

    def reports(self, count: int) -> None:
        """A trial that reports so many steps."""
        trial = self.study.ask()
        for step in range(count):
            trial.report(0.5, step)
        self.study.tell(trial, 0.5)

    def multiply(self, studies: int, trials: int) -> None:
        """The rows of this study's only trial `trials` times in each of so many studies, by SQL."""
        while len(self.storage.get_all_studies()) < studies:
            Theirs(self.storage)
        counted = "WITH RECURSIVE n(i) AS (SELECT {} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {}) "
        source = "FROM trials AS t, n, studies AS s"
        made = "n.i, s.study_id, t.state, t.datetime_start, t.datetime_complete"
        with self.storage.engine.begin() as connection:
            first = connection.scalar(text("SELECT min(trial_id) FROM trials"))
            copied = f"INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) SELECT {made} "
            given = {"first": first, "study": self.study._study_id}
            rest = f"{source} WHERE t.trial_id = :first AND NOT (n.i = 0 AND s.study_id = :study)"
            # SQLite takes the counting before INSERT as well as PostgreSQL does.
            connection.execute(text(counted.format(0, trials) + copied + rest), given)
            for table, columns in {
                "trial_params": "param_name, param_value, distribution_json",
                "trial_values": "objective, value, value_type",
            }.items():
                picked = ", ".join(f"p.{column.strip()}" for column in columns.split(","))
                connection.execute(
                    text(
                        f"INSERT INTO {table} (trial_id, {columns}) SELECT t.trial_id, {picked} "
                        f"FROM trials AS t, {table} AS p WHERE p.trial_id = :first AND t.trial_id <> :first"
                    ),
                    {"first": first},
                )
