"""Study files small enough to run many times, and what is compared when two runs must be the same."""

from hpo import spec, study_file

SMALL = """
name: small
problem:
  data: digits
  split: {train: 100, validation: 200}
  model: {mlp: [8], activation: relu}
training: {solver: sgd, steps: 30, batch_size: 50}
space:
  l2: {per: neuron, low: 1e-6, high: 1.0, default: 1e-3}
  learning_rate: {per: layer, low: 3e-3, high: 1.0, default: 0.1}
methods:
  - {name: drmad, krylov: 4, knots: 3}
  - {name: random, per: global}
  - {name: tpe, per: layer, startup: 2}
budget: {trainings: 5}
seeds: 2
"""


def study(**changes):
    """The small study with some top-level keys replaced."""
    content = study_file.parse(SMALL).canonical()
    return spec.Study.model_validate({**content, **changes})


def essence(ledger, name):
    """Everything of every trial that must be repeated bit for bit: all but times."""
    found = {}
    for arm in ledger.arms(name):
        for trial in ledger.trials(name, arm.label):
            outcome = trial.outcome
            found[arm.label, trial.number] = (
                {k: v.tobytes() for k, v in trial.proposal.values.items()},
                trial.state,
                outcome and (outcome.validation_loss, outcome.test_loss, outcome.test_accuracy),
                outcome and outcome.cost.gradient_evaluations,
                outcome and outcome.curve.tobytes(),
                outcome and outcome.hypergradient and {k: v.tobytes() for k, v in outcome.hypergradient.items()},
                outcome and outcome.ends and {k: v.tobytes() for k, v in outcome.ends.items()},
            )
    return found
