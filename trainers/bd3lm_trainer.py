"""Supervised fine-tuning of masked diffusion LMs that see block by block."""

from typing import Any

import torch
from torch import Tensor

from conv_dlm.generation.attention import BlockCausal
from trainers.block_diffusion import doubled, mask_blocks, noisy_from
from trainers.losses import are_top, row_sums, token_log_probs
from trainers.mdlm_trainer import BatchLoss, MDLMTrainer
from trainers.metrics import Ratio
from trainers.model_card import BD3LM_PAPER
from trainers.noise import Rows
from trainers.shifted import shifts


class BD3LMTrainer(MDLMTrainer):
    """Trainer of masked diffusion LMs with block-causal attention (BD3LM, arXiv 2503.09573), as SDAR and LLaDA2.

    One forward on a noisy and a clean copy of each row trains all of its blocks. Each block has its own noise level and
    sees the clean blocks before it. The loss is [`MDLMTrainer`]'s, of each block given those before it: a bound of the
    negative log-likelihood, in nats per token. With `complementary_masks` each row is seen twice, with complementary
    masks; then every token weighs the same, and the loss is no bound (Fast-dLLM v2, arXiv 2509.26328). Evaluation
    always measures the bound. Where logits are shifted, the first token of each block is learnt from the clean copy,
    since decoding writes it first.

    Logged as by [`MDLMTrainer`], without the losses by noise level.

    Args:
        model, kwargs:
            As for [`MDLMTrainer`], with `attention_pattern="block_causal"`; blocks are the model's.
        args ([`MDLMTrainingConfig`]):
            With `objective="bd3lm"`.

    Raises:
        `ValueError`: a model with another attention; and whatever [`MDLMTrainer`] raises.
    """

    _name = "BD3LM"
    _paper = BD3LM_PAPER
    _objective = "bd3lm"

    def _check_attention(self) -> None:
        pattern = getattr(self.bare_model, "attention_pattern", None)
        if not isinstance(pattern, BlockCausal):
            raise ValueError(
                f"`objective='bd3lm'` trains models that see block by block, and {type(self.bare_model).__name__} sees "
                "the whole canvas: set `objective: mdlm`; or load an A2D with `attention_pattern='block_causal'` and a "
                "`block_length`."
            )
        self._block_length = pattern.block_length

    def batch_loss(self, model: torch.nn.Module, inputs: dict[str, Tensor], rows: Rows) -> BatchLoss:
        """The bound of one batch, summed over covered tokens (or, by row, averaged over them)."""
        ids_BL, covered_BL, attention_BL = inputs["input_ids"], inputs["labels"] != -100, inputs["attention_mask"]
        shifted = shifts(self.bare_model)
        noise = mask_blocks(rows, covered_BL, attention_BL, self._block_length, self.args.min_noise, shifted)
        pairs = self.args.complementary_masks and self.model.training
        views = [(noise.masked_BL, noise.first_BL)]
        if pairs:
            views.append((noise.rest_BL, torch.zeros_like(noise.first_BL)))
        start = noisy_from(covered_BL, self._block_length)
        copies = [
            doubled(ids_BL, masked_BL | noise.padding_BL, attention_BL, self._block_length, self.mask_token_id, start)
            for masked_BL, _ in views
        ]
        batch: dict[str, Any] = {name: torch.cat([copy[name] for copy in copies]) for name in copies[0]}
        batch["position_ids"] = copies[0]["position_ids"]

        ones_BL = torch.ones_like(noise.weight_BL)
        weight_BL = ones_BL if pairs else noise.weight_BL
        weight_BD = torch.cat([weight_BL[:, start:], ones_BL], 1).repeat(len(views), 1)
        target_RD = torch.cat([ids_BL[:, start:], ids_BL], 1).repeat(len(views), 1)
        noisy_RN = torch.cat([masked_BL[:, start:] for masked_BL, _ in views])
        clean_RL = torch.cat([first_BL for _, first_BL in views])
        parts = (noisy_RN, clean_RL)
        learnt_RD = torch.cat(parts, 1)
        # the left neighbours of marked positions: neither copy's first one is marked
        read_RD = torch.cat([part.roll(-1, dims=1) for part in parts], 1) if shifted else learnt_RD
        outputs = model(**batch, logits_to_keep=read_RD, use_cache=False)

        targets_M = target_RD[learnt_RD]
        log_p_M = token_log_probs(outputs.logits, targets_M[:, None], self.mask_token_id).squeeze(1)
        count = len(ids_BL)
        bound_R = -row_sums(log_p_M * weight_BD[learnt_RD], learnt_RD)
        bound_B = bound_R.view(len(views), count).sum(0) * rows.weight_B
        covered_B = covered_BL.sum(1) * rows.weight_B
        by_token = self.args.loss_norm == "token"
        total = bound_B.sum() if by_token else (bound_B / covered_BL.sum(1)).sum()

        right_R = row_sums(are_top(outputs.logits, targets_M).float(), learnt_RD)
        right_B = right_R.view(len(views), count).sum(0) * rows.weight_B
        learnt_B = learnt_RD.sum(1).view(len(views), count).sum(0) * rows.weight_B
        ratios: dict[str, Ratio] = {"masked_token_accuracy": (right_B.sum(), learnt_B.sum())}
        if not self.model.training:
            ratios["loss"] = total, (covered_B if by_token else rows.weight_B).sum()
            ratios["nelbo"] = bound_B.sum(), covered_B.sum()
        text_RD = torch.cat([attention_BL[:, start:], attention_BL], 1).repeat(len(views), 1)
        return BatchLoss(total, outputs, text_RD, ratios)
