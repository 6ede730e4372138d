"""Every solver, made for the small network of `tiny`, with hyperparameters to test it with."""

import inspect
from functools import partial

import tiny
import torch.nn.functional as F

from hpo.registry import resolve
from solvers import SOLVERS
from solvers.chain import through

ROWS = tiny.part(1, 60)
NET = {"dladmm": tiny.chain("relu")}
"""The network where it is not the tanh of `tiny.forward`."""

HYPER = {
    "sgd": {"learning_rate": tiny.tensor(0.2), "momentum": tiny.tensor(0.5)},
    "adam": {"learning_rate": tiny.tensor(0.02), "beta1": tiny.tensor(0.8), "beta2": tiny.tensor(0.95)},
    "adagrad": {"learning_rate": tiny.tensor(0.1)},
    "adadelta": {"learning_rate": tiny.tensor(3.0), "decay": tiny.tensor(0.8)},
    "curveball": {"learning_rate": tiny.tensor(0.5), "damping": tiny.tensor(0.5)},
    "dladmm": {"rho": tiny.tensor(0.5), "nu": tiny.tensor(0.2)},
    "hsic": {
        "learning_rate": tiny.tensor(0.05),
        "head_rate": tiny.tensor(0.2),
        "sigma": tiny.tensor(2.0),
        "beta": tiny.tensor(20.0),
    },
}
HYPER = {name: {**given, **tiny.per_neuron_l2()} for name, given in HYPER.items()}
STEP = {"dladmm": 1e-7, "adagrad": 1e-6}
"""The step of a difference where a longer one would cross a kink, or what bends is sharper."""
REPLICATED = {"dladmm": "rho"}
"""The hyperparameter that differs between replicas where it is not the learning rate."""


def made(name):
    net = NET.get(name, tiny.chain())
    offers = {
        "loss": tiny.loss,
        "forward": partial(through, net),
        "criterion": F.cross_entropy,
        "chain": net,
        "train": ROWS,
    }
    constructor = resolve(SOLVERS[name])
    wanted = inspect.signature(constructor).parameters.values()
    return constructor(*(offers[p.name] for p in wanted if p.kind is p.POSITIONAL_OR_KEYWORD))
