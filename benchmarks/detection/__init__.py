"""How well the default configuration detects what is labelled, beside floors, through the product's own commands."""
