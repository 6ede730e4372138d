"""Which trainings are not worth finishing: Optuna's pruners at the points of a learning curve."""
