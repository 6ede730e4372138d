"""What can be said about a training before and along it, after Allen-Zhu, Li, Song (ICML 2019).

    rows        separation.py (how far apart are the unit-normalised rows)   floors.py (what repeated rows force)
    network     tangent_kernel.py (H = J Jᵀ)                                 theory.py (the width the theorem asks for)
    training    descent_path.py (‖∇F‖²/F, distance from the start, activation flips, the edge of stability)

Pure functions over tensors: torch and `solvers` only. `findings.py` has what they return, without torch, as it crosses
process borders.
"""
