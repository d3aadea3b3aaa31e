"""R2FT of autoregressive LMs: the baseline of arXiv 2509.15188, with the preference the right way round."""

from typing import Any

import torch
from torch import Tensor

from trainers.config_checks import check_kind
from trainers.losses import are_top, row_sums, token_log_probs
from trainers.mdlm_trainer import BatchLoss
from trainers.noise import Rows
from trainers.r2ft_config import R2FTConfig
from trainers.r2ft_trainer import R2FTTrainer, preference_loss, read_examples


class ARR2FTTrainer(R2FTTrainer):
    """R2FT (arXiv 2509.15188) of an autoregressive LM, to compare diffusion with; SFT before it is TRL's own.

    The rules for prompts and responses make the repetition, which is scored as text: `log p` of the chosen is that of
    the clean response after its prompt, `log p` of the rejected that of the repetition after the clean text before it.
    Both are teacher-forced and per token, and come from one forward on 2 B rows. Loss, data, draws and log are
    [`R2FTTrainer`]'s; `masked_token_accuracy` is replaced by
        - `mean_token_accuracy`: share of the response's tokens that are the most probable next ones, as in TRL's SFT

    In the released code the two log-probabilities are negative log-likelihoods, so that its loss prefers the
    repetition; here they are log-likelihoods.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]):
            A causal LM of Transformers whose `forward` takes a boolean `logits_to_keep` [B, L], as nearly all do.
        args ([`R2FTConfig`]), kwargs:
            As for [`R2FTTrainer`].

    Raises:
        `ValueError`: a corruption rule for plain text, and what [`R2FTTrainer`] raises.
    """

    _tag_names = ["trl", "conv-dlm"]
    _name = "AR R2FT"

    def __init__(self, model: Any, args: R2FTConfig, **kwargs: Any):
        check_kind(args, R2FTConfig, self)
        if args.corruption_rule().both_sides:
            raise ValueError(
                f"`corruption={args.corruption!r}` masks text on both sides of what it repeats, and an autoregressive "
                "model sees one side: use 'repeat' or 'naive', on prompts and completions."
            )
        super().__init__(model=model, args=args, **kwargs)

    def _find_mask_token(self) -> None:
        """There is none."""

    def _check_attention(self) -> None:
        """It is causal."""

    def batch_loss(self, model: torch.nn.Module, inputs: dict[str, Tensor], rows: Rows) -> BatchLoss:
        """R2FT's loss of one batch, summed over rows; nothing behind the last scored token is computed."""
        examples = read_examples(inputs, self._tokenizer.eos_token_id)
        corruption = self.corrupt(examples, rows)
        repeated_BL = corruption.rejected_BL.where(corruption.rejects_BL, examples.ids_BL)
        ids_CL = torch.cat([examples.ids_BL, repeated_BL])  # C = 2 B
        scored_CL = torch.cat([corruption.chooses_BL, corruption.rejects_BL])
        scored_CL[:, 0] = False  # nothing predicts the first token
        end = int(scored_CL.any(0).nonzero().max()) + 1
        ids_CL, scored_CL = ids_CL[:, :end], scored_CL[:, :end]

        # The token at i is predicted at i - 1.
        predicts_CL, text_CL = scored_CL[:, 1:], inputs["attention_mask"].repeat(2, 1)[:, : end - 1]
        outputs = model(
            input_ids=ids_CL[:, :-1],
            attention_mask=text_CL,
            logits_to_keep=predicts_CL,
            use_cache=False,
        )
        targets_M = ids_CL[scored_CL]
        log_p_M = token_log_probs(outputs.logits, targets_M[:, None], None).squeeze(1)
        logp_w_B, logp_l_B = (row_sums(log_p_M, predicts_CL) / scored_CL.sum(1)).chunk(2)

        total, ratios = preference_loss(logp_w_B, logp_l_B, rows.weight_B, self.args)
        if not self.model.training:
            ratios["loss"] = total, rows.weight_B.sum()
        right_C = row_sums(are_top(outputs.logits, targets_M).float(), predicts_CL)
        count_C = scored_CL.sum(1)
        right_B, count_B = (value_C.chunk(2)[0] * rows.weight_B for value_C in (right_C, count_C))
        ratios["mean_token_accuracy"] = right_B.sum(), count_B.sum()
        return BatchLoss(total, outputs, text_CL, ratios)
