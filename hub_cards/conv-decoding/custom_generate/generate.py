"""Convolutional decoding, and all other decode types of conv-dlm, for a masked diffusion model that lacks them."""

from .generation_custom_generate import generate as generate
