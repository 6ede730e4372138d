"""`hpo.diagnostics` on a study: its training rows, its initial network, its training at the default values.

Large data are sub-sampled: as many rows as so much arithmetic allows, the first of the training part, whose order is
random already. Each part says what it took; one that finds nothing says why and leaves the others alone.
"""
