"""Fine-tuning of masked diffusion language models with TRL."""

from conv_dlm.contract import TRAINERS, check_contract
from trainers.ar_r2ft_trainer import ARR2FTTrainer
from trainers.bd3lm_trainer import BD3LMTrainer
from trainers.corruption import CORRUPTIONS, CorruptionRule
from trainers.distill_config import DistillConfig
from trainers.distill_trainer import DistillTrainer
from trainers.estimates import ESTIMATES, Estimate
from trainers.grpo_config import DiffusionGRPOConfig
from trainers.grpo_trainer import DiffusionGRPOTrainer
from trainers.mdlm_config import MDLMTrainingConfig
from trainers.mdlm_trainer import MDLMTrainer
from trainers.r2ft_config import R2FTConfig
from trainers.r2ft_trainer import R2FTTrainer

check_contract(TRAINERS)

__all__ = [
    "CORRUPTIONS",
    "ESTIMATES",
    "ARR2FTTrainer",
    "BD3LMTrainer",
    "CorruptionRule",
    "DiffusionGRPOConfig",
    "DiffusionGRPOTrainer",
    "DistillConfig",
    "DistillTrainer",
    "Estimate",
    "MDLMTrainer",
    "MDLMTrainingConfig",
    "R2FTConfig",
    "R2FTTrainer",
]
