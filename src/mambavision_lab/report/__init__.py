"""A picture of every run: one offline HTML page, curves, and comparisons of several runs."""
