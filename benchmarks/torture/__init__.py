"""Fault injection: what a run must survive is done to it, again and again, from a printed seed.

Each file is a part with `run(*, seed, count) -> list[Outcome]`, and may say in `COUNT` how many attempts it
makes by default. A part knows the commands and folders of the package, as a user does, and no other part.
"""
