"""Where trainings run. An executor is made from the study's `resources`; the loop submits the functions of `worker`."""
