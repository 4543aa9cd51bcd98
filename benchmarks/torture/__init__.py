"""Fault injection: what a run must survive is done to it, again and again, from a printed seed.

Each file is a part with `run(*, seed, count) -> list[Outcome]`, and `COUNT`, how many attempts a full run of
the part takes. A part knows the commands and folders of the package, as a user does, and no other part.
"""
