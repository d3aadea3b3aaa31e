"""Rejecting rule-based fine-tuning (R2FT) of masked diffusion LMs, arXiv 2509.15188."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from trainers import noise
from trainers.config_checks import check_kind
from trainers.corruption import Corruption, CorruptionRule, Examples
from trainers.losses import are_top, r2ft_losses, r2ft_margins, row_sums, token_log_probs
from trainers.mdlm_trainer import BatchLoss, MDLMTrainer
from trainers.metrics import Ratio
from trainers.model_card import R2FT_PAPER
from trainers.noise import Rows
from trainers.r2ft_config import R2FTConfig
from trainers.shifted import predicting
from trainers.tokenizing import Check


class R2FTTrainer(MDLMTrainer):
    """Trainer that teaches a fine-tuned masked diffusion LM to reject repetitions (arXiv 2509.15188).

    A corruption rule masks a part of each example and makes the repetition that a model would fall into there. One
    forward pass on the masked example gives log p of the clean tokens (chosen, w) and of the repetition (rejected, l),
    each divided by its own number of tokens:

        loss = -log sigmoid(beta_w logp_w - beta_l logp_l - gamma) - beta_a logp_w,  averaged over rows

    There is no reference model. Start from a model after SFT with `loss_cover="response"`; 200 to 300 steps are enough.

    Logged besides SFT's `loss`, `grad_norm`, `num_tokens` and [`MDLMTrainer`]'s `masked_token_accuracy`,
    `tokens_per_second`; with the prefix `eval_` at evaluation, on the same draws each time:
        - `loss/preference`, `loss/anchor`: the two terms
        - `logps/chosen`, `logps/rejected`: the log-probabilities per token, averaged over rows
        - `rewards/accuracies`: share of rows whose margin is positive
        - `rewards/margins`: `beta_w logp_w - beta_l logp_l - gamma`

    Args:
        model, kwargs:
            As for [`MDLMTrainer`].
        args ([`R2FTConfig`]):
            Required, since `canvas_length` depends on how the model is used.

    Raises:
        `ValueError`: the corruption rule can't take an example; and whatever [`MDLMTrainer`] raises.
    """

    _name = "R2FT"
    _paper = R2FT_PAPER
    _pads_evaluation = True  # repetitions run into the EOS of the canvas there too

    args: R2FTConfig

    def __init__(self, model: Any, args: R2FTConfig, **kwargs: Any):
        check_kind(args, R2FTConfig, self)
        super().__init__(model=model, args=args, **kwargs)

    @staticmethod
    def row_check(args: R2FTConfig, tokenizer: PreTrainedTokenizerBase) -> Check:
        rule = args.corruption_rule()
        return partial(check_row, rule=rule, called=args.corruption, eos_token_id=tokenizer.eos_token_id)

    def count_items(self, batch: dict[str, Tensor]) -> Tensor:
        """The number of rows: a step's loss is averaged over them."""
        return torch.tensor(len(batch["input_ids"]), device=batch["input_ids"].device)

    def corrupt(self, examples: Examples, rows: Rows) -> Corruption:
        """Apply the rule that the config names, with draws that belong to the rows."""
        eos_token_id = self._tokenizer.eos_token_id
        rule = self.args.corruption_rule()
        return rule(examples, lambda slots: rows.uniform(noise.CORRUPTION, slots), eos_token_id)

    def batch_loss(self, model: torch.nn.Module, inputs: dict[str, Tensor], rows: Rows) -> BatchLoss:
        """R2FT's loss of one batch, summed over rows."""
        examples = read_examples(inputs, self._tokenizer.eos_token_id)
        corruption = self.corrupt(examples, rows)
        needed_BL = corruption.needed_BL
        outputs = model(
            input_ids=examples.ids_BL.masked_fill(corruption.masked_BL, self.mask_token_id),
            attention_mask=inputs["attention_mask"],
            logits_to_keep=predicting(self.model, needed_BL),
            use_cache=False,
        )
        logp_w_B, logp_l_B = response_log_probs(outputs.logits, examples, corruption, self.mask_token_id)

        total, ratios = preference_loss(logp_w_B, logp_l_B, rows.weight_B, self.args)
        if not self.model.training:
            ratios["loss"] = total, rows.weight_B.sum()
        right_M = are_top(outputs.logits, examples.ids_BL[needed_BL]) & corruption.chosen_BL[needed_BL]
        right_B = row_sums(right_M.float(), needed_BL) * rows.weight_B
        ratios["masked_token_accuracy"] = right_B.sum(), (corruption.chosen_BL.sum(1) * rows.weight_B).sum()
        return BatchLoss(total, outputs, inputs["attention_mask"], ratios)


def response_log_probs(
    logits_MV: Tensor, examples: Examples, corruption: Corruption, mask_token_id: int
) -> tuple[Tensor, Tensor]:
    """Log-probability per token of the clean response (w) and of the repetition (l), each over its own tokens.

    Args:
        logits_MV (`Tensor` [M, V]): of the positions that `corruption.needed_BL` marks.

    Returns:
        Two `FloatTensor` [B].
    """
    needed_BL = corruption.needed_BL
    targets_M2 = torch.stack([examples.ids_BL[needed_BL], corruption.rejected_BL[needed_BL]], 1)
    log_p_M2 = token_log_probs(logits_MV, targets_M2, mask_token_id)
    logp_w_M = log_p_M2[:, 0].where(corruption.chosen_BL[needed_BL], 0.0)
    logp_l_M = log_p_M2[:, 1].where(corruption.rejects_BL[needed_BL], 0.0)
    return (
        row_sums(logp_w_M, needed_BL) / corruption.chosen_count_B,
        row_sums(logp_l_M, needed_BL) / corruption.rejected_count_B,
    )


def preference_loss(
    logp_w_B: Tensor, logp_l_B: Tensor, weight_B: Tensor, args: R2FTConfig
) -> tuple[Tensor, dict[str, Ratio]]:
    """R2FT's loss, summed over weighted rows, and the logged ratios."""
    margin_B = r2ft_margins(logp_w_B, logp_l_B, args.beta_w, args.beta_l, args.gamma)
    preference_B, anchor_B = r2ft_losses(margin_B, logp_w_B, args.beta_a)
    by_row = {
        "loss/preference": preference_B,
        "loss/anchor": anchor_B,
        "logps/chosen": logp_w_B,
        "logps/rejected": logp_l_B,
        "rewards/margins": margin_B,
        "rewards/accuracies": (margin_B > 0).float(),
    }
    ratios: dict[str, Ratio] = {name: ((value_B * weight_B).sum(), weight_B.sum()) for name, value_B in by_row.items()}
    return ((preference_B + anchor_B) * weight_B).sum(), ratios


def read_examples(inputs: dict[str, Tensor], eos_token_id: int) -> Examples:
    """Prepare a batch for the corruption rules; of several responses in a row, the last one counts."""
    ids_BL, covered_BL = inputs["input_ids"], inputs["labels"] != -100
    length_B = inputs["attention_mask"].sum(1)
    positions_L = torch.arange(ids_BL.shape[1], device=ids_BL.device)
    content_BL = (ids_BL != eos_token_id) & (positions_L < length_B[:, None])
    end_B = (content_BL * (positions_L + 1)).amax(1)
    # The response starts after the last unlabelled token before its end.
    given_BL = ~covered_BL & (positions_L < end_B[:, None])
    start_B = (given_BL * (positions_L + 1)).amax(1)
    return Examples(ids_BL, covered_BL & (positions_L >= start_B[:, None]), start_B, end_B, length_B)


def check_row(
    ids: list[int], labels: list[int], index: int, name: str, *, rule: CorruptionRule, called: str, eos_token_id: int
) -> None:
    """Raise ValueError, naming the row, if the corruption rule can't take it."""
    inputs = {"input_ids": torch.tensor([ids]), "labels": torch.tensor([labels])}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    examples = read_examples(inputs, eos_token_id)
    bounds = (int(bound) for bound in (examples.start_B, examples.end_B, examples.length_B))
    complaint = rule.complaint(*bounds)
    if complaint is not None:
        raise ValueError(f"`corruption={called!r}` can't take row {index} of the `{name}` data: {complaint}.")
