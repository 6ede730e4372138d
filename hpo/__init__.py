"""hpo: hyperparameter optimization of PyTorch trainings, thousands of hyperparameters at a time."""

__version__ = "0.1.0"
