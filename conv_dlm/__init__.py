"""Masked diffusion language models on Transformers: importing this package registers them with the Auto classes."""

__version__ = "0.1.0"
