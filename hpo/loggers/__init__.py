"""Where else trials are written while a study runs, by address: csv:FILE, tensorboard:DIR, mlflow:URI.

The ledger stays what counts: a logger is told of a trial when that is stored, one that fails loses nothing, and the
next run that has it writes what it lacks. A new one is a file here and a line in `hpo.registry.LOGGERS`.
"""
