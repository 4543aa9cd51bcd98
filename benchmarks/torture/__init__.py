"""Fault injection: what a run must survive is done to it, again and again, from a printed seed.

Each file with a function `run(*, seed, count) -> list[Outcome]` is a part; `COUNT` is how many attempts it
makes by default, `SHORT` with --short. A part knows the commands and folders of the package, as a user does,
and no other part.
"""
