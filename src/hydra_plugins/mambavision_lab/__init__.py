"""Where Hydra looks for plugins; what they do is in mambavision_lab.launch."""
