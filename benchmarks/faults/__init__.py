"""Faults on a real Kafka, and what was lost, doubled or different after them."""
