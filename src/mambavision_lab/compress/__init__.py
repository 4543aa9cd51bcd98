"""Make trained networks smaller: whole channels removed (pruning), 8-bit weights and activations (int8).

It knows no config, no data set and no Trainer: tasks hand it images and a function that measures.
"""
