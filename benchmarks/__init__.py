"""Measurements behind the figures in docs/results.md; each is one command that prints JSON."""
