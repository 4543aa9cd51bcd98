"""What a config must be: schemas, checks, messages and help; knows no torch and no run folder."""
