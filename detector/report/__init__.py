"""Pages that need nothing else: what a replay found, and what moved between two windows."""
