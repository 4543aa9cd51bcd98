"""Lightning around the networks: the module, its optimizer and schedule, loggers and callbacks."""
