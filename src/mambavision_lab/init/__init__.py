"""A project of one's own beside this package: `mambavision-init` copies the files in `template/`.

It knows the names of the commands and nothing of configs, networks or runs: what it writes is the user's.
"""
