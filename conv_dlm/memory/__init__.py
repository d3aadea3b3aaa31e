"""How much memory a model takes: for its weights, for a step of `generate`, for a training step. Arithmetic on sizes.

This room imports no other, so that each may ask it.
"""
