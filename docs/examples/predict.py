"""Loads the exported weights into the network itself."""

import json
from pathlib import Path

import torch
from network import residual
from safetensors.torch import load_file

from hpo import study_file
from hpo.problems.problem import build

best = json.loads(Path("best/hyperparameters.json").read_text())
study = study_file.load("best/study.yaml")
# The rows must be prepared as the training rows of this split say, which hpo does.
rows = build(study.problem, study.training.batch_size, best["seed"], None).test

network = residual(rows.inputs.shape[1:], 2)
network.load_state_dict(load_file("best/weights.safetensors"))
with torch.no_grad():
    right = network(rows.inputs).argmax(1) == rows.targets
print(f"{best['arm']}, trial {best['trial']}: {right.float().mean():.1%} of {len(right)} test rows right")
