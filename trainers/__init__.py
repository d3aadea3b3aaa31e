"""Fine-tuning of masked diffusion language models with TRL."""

from trainers.mdlm_config import MDLMConfig
from trainers.mdlm_trainer import MDLMTrainer

__all__ = ["MDLMConfig", "MDLMTrainer"]
