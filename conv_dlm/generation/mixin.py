"""The mixin that gives a masked diffusion LM its `generate`."""

from transformers import GenerationMixin


class DiffusionGenerationMixin(GenerationMixin):
    """Denoising `generate` for models that map ids to logits."""
