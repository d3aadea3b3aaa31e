"""Measurements of this project. Each writes one file of `results/` that says how it was made."""
