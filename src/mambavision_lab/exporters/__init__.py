"""Write trained networks for other runtimes, one module per format, each compared with eager mode."""
