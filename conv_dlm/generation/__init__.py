"""What happens inside `generate`: canvas, candidates, position weights, unmasking rules, schedule."""

from conv_dlm.generation.mixin import DiffusionGenerationMixin

__all__ = ["DiffusionGenerationMixin"]
