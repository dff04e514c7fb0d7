"""The daemon: the chain, incidents, state, control, replay, metrics, command line."""
