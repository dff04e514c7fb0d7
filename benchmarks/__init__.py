"""What is measured rather than tested. `python -m benchmarks.throughput` from the root of the repository."""
