"""Where trainings run. An executor is made with (study, data directory) and submits the functions of `worker`."""
