"""Compose and check configs: schemas, messages and help; imports no torch and knows no run folder."""
