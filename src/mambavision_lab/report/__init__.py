"""Pages and pictures from run folders: a report of each run, its curves, comparisons of several runs."""
