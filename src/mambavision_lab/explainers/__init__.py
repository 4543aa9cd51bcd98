"""What a network looks at: a map of the image per method, what it is worth, and the network as a whole.

`methods.explain(net, image, "scan")` takes a network and a normalised image (1, C, H, W) and returns an
`Explanation`. One file per method; `record.py` and `tokens.py` are what they share. The room knows networks,
layers and tensors, and must not know configs, runs, files, data sets, or how a map is shown as a picture.
"""
