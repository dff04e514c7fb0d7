"""How data moves: brokers, files, formats, feature schema, windows, training."""
