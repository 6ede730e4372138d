"""The reproductions start where the papers start."""

from math import exp
from pathlib import Path

import pytest
import studies_small
import torch

from hpo import study_file
from hpo.problems.problem import build

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "studies/papers").glob("drmad-mnist*.yaml"))


def test_the_network_of_drmad(monkeypatch):
    monkeypatch.chdir(ROOT)
    problem = studies_small.study().problem.model_copy(update={"model": "studies.papers.networks:drmad_mnist"})
    weights = build(problem, 50, 0, None).weights
    assert [tuple(w.shape) for w in weights.values() if w.dim() == 2] == [(50, 64), (50, 50), (50, 50), (10, 50)]
    everything = torch.cat([w.flatten() for w in weights.values()])
    assert everything.std().item() == pytest.approx(exp(-2.8), rel=0.03)
    assert abs(everything.mean().item()) < 0.003


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_study_starts_at_the_papers_values(path):
    """With w = z·e^0.2, log-strength −4 on z and v ← g·v − (1−g)∇: see studies/papers/README.md."""
    study = study_file.load(path)
    [solver] = study.training.solver
    momentum = solver.options["momentum"]
    assert momentum == (0.9 if "0.9" in path.stem else 0.1)
    rate = study.space["learning_rate"].default if "learning_rate" in study.space else solver.options["learning_rate"]
    assert rate == pytest.approx(0.05 * (1 - momentum) * exp(0.4), rel=1e-3)
    strength = study.space["l2"].default if "l2" in study.space else solver.options.get("l2")
    assert strength == (None if "without-l2" in path.stem else pytest.approx(2 * exp(-4.4), rel=1e-3))
    assert (study.training.steps, study.training.batch_size, study.budget.trainings) == (2000, 50, 20)
