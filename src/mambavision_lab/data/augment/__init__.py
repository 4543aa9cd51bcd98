"""Augmentation: what may change in a training image, from a draw of (seed, epoch, image) alone.

`draws.py` gives the random numbers; `batch.py` augments whole batches on their device; `policies.py` runs
a library's policy image by image in the loader; `mixing.py` mixes images and their labels. Nothing here
knows data sets, loaders or a Trainer.
"""
