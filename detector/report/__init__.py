"""The replay report: what a replay found, gathered while it runs, as one page that needs nothing else."""
