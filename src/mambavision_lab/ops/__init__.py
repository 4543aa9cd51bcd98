"""Numerical operators, each with a slow reference and faster backends."""
