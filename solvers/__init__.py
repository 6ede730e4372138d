"""Inner trainings as pure steps: a torch-only library, usable without hpo.

    from solvers.sgd import SGD
    solver = SGD(loss)                       # loss(weights, hyper, batch) -> scalar
    state = solver.init(weights, hyper, batch(0))
    for t in range(steps):
        state = solver.step(state, hyper, batch(t))

`SOLVERS` names them without importing torch.
"""

from __future__ import annotations

SOLVERS = {
    "sgd": "solvers.sgd:SGD",
    "adam": "solvers.adam:Adam",
    "adagrad": "solvers.adagrad:Adagrad",
    "adadelta": "solvers.adadelta:Adadelta",
    "curveball": "solvers.curveball:CurveBall",
    "dladmm": "solvers.dladmm:DLADMM",
    "hsic": "solvers.hsic:HSIC",
}
