"""Write trained networks for other runtimes, each compared there with eager mode; run such files."""
