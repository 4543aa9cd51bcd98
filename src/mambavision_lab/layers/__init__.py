"""Building blocks of the networks, one idea per file; tokens are (batch, length, dim)."""
