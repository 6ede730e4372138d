"""Which studies have the same data, which the same method: what may be pooled under one name.

Two studies have the same data when their test losses can be compared: the same problem (data set, split, model), for a
file the same one, and the same training but for the solver. One title is one method when space, method and its options,
solver and its settings, and the budget agree; a budget in gradient evaluations counts in trainings, so that it is the
same where data sets need trainings of different length.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpo.spec import Arm, Study
from hpo.storage.records import ArmRecord, StudyRecord

Block = tuple[str, int]
"""One data set with one seed."""


def data(records: Mapping[str, StudyRecord]) -> dict[str, str]:
    """Study → the name of its data; two different ones of one name get their study's in brackets."""
    identities = {name: _data(record) for name, record in records.items()}
    first = {key: name for name, key in reversed(identities.items())}
    plain = {key: records[name].spec.problem.data for key, name in first.items()}
    meant = list(plain.values())
    names = {key: f"{told} ({first[key]})" if meant.count(told) > 1 else told for key, told in plain.items()}
    return {name: names[key] for name, key in identities.items()}


def titles(
    records: Mapping[str, StudyRecord], arms: Mapping[str, Sequence[ArmRecord]], data: Mapping[str, str]
) -> dict[tuple[str, str], str]:
    """(study, title) → the method's name in the comparison.

    The first study keeps its titles. A later one with the same method goes on under the name, unless that has an arm on
    the same data and seed already; otherwise its name is added: `drmad (B)`.
    """
    found: dict[tuple[str, str], str] = {}
    method: dict[str, str] = {}
    taken: dict[str, set[Block]] = {}
    for study, record in records.items():
        blocks = {(data[study], arm.seed) for arm in arms[study]}
        for title, key in {arm.title: _method(record.spec, arm) for arm in record.spec.arms()}.items():
            free = [name for name, same in method.items() if same == key and not taken[name] & blocks]
            name = free[0] if free else title
            while not free and name in method:
                name = f"{name} ({study})"
            method[name] = key
            taken[name] = taken.get(name, set()) | blocks
            found[study, title] = name
    return found


def _data(record: StudyRecord) -> str:
    problem, training = record.spec.problem, record.spec.training
    file = problem.data.endswith((".csv", ".csv.gz", ".npz"))
    place = os.path.normpath((record.data_dir or Path()) / Path(problem.data).expanduser()) if file else None
    rest = training.model_dump(mode="json", exclude={"solver"})
    return json.dumps([problem.model_dump(mode="json"), rest, place], sort_keys=True)


def _method(spec: Study, arm: Arm) -> str:
    method, solver = (part.model_dump(mode="json", exclude={"label"}) for part in (arm.method, arm.solver))
    space = spec.model_dump(mode="json", include={"space"})
    budget = spec.budget.amount / (spec.training.steps if spec.budget.unit == "gradient_evaluations" else 1)
    return json.dumps([arm.title, method, solver, space, spec.budget.unit, budget], sort_keys=True)
