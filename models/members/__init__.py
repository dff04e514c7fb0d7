"""The members of the panel."""
