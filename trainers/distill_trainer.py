"""Distillation of a masked diffusion LM for parallel decoding, from its own trajectories."""

from typing import Any

import torch
from torch import Tensor

from trainers import noise
from trainers.config_checks import check_kind
from trainers.distill_config import DistillConfig
from trainers.distill_data import TrajectoryCollator, tokenized
from trainers.distillation import Answers, active_blocks, certainty_loss, random_part, views_of, written_last
from trainers.losses import are_top, token_log_probs
from trainers.mdlm_trainer import BatchLoss, MDLMTrainer, limits_of
from trainers.metrics import Ratio
from trainers.model_card import DPARALLEL_PAPER
from trainers.noise import Rows
from trainers.shifted import predicting
from trainers.tokenizing import load_tokenizer


class DistillTrainer(MDLMTrainer):
    """Trainer that makes a masked diffusion LM sure of many tokens at once, on answers that it has written itself.

    In each step one block of each answer is partly masked, and everything behind it is masked. The loss is the
    cross-entropy of the block's masked tokens plus the entropy of those that are right already, averaged over tokens
    and then over rows (dParallel, arXiv 2509.26488). By options the masks follow the order in which the answer was
    written, and grow (d3LLM, arXiv 2601.07568). Decoding gets faster by a rule that commits what is sure: `threshold`,
    `conv_threshold`.

    Logged besides SFT's `loss`, `grad_norm`, `num_tokens` and [`MDLMTrainer`]'s `masked_token_accuracy`,
    `tokens_per_second`; with the prefix `eval_` at evaluation, on the same draws each time:
        - `loss/cross_entropy`, `loss/certainty`: the two terms, per masked token, the second without its weight
        - `confidence`: mean probability of the right token

    Args:
        model, kwargs:
            As for [`MDLMTrainer`]; the datasets are those of `python -m trainers.trajectories`.
        args ([`DistillConfig`], *optional*):
            Defaults to a config with the output folder "Distill".

    Raises:
        `ValueError`: a row that is no trajectory of the model; and whatever [`MDLMTrainer`] raises.
    """

    _name = "Distill"
    _paper = DPARALLEL_PAPER

    args: DistillConfig

    def __init__(self, model: Any, args: DistillConfig | None = None, **kwargs: Any) -> None:
        args = args or DistillConfig("Distill")
        check_kind(args, DistillConfig, self)
        super().__init__(model, args, **kwargs)

    def _read(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Replace the trajectories among SFTTrainer's arguments by tokens, and set the collator that batches them."""
        self._tokenized, self._reads = [], False
        args.dataset_kwargs = {**(args.dataset_kwargs or {}), "skip_prepare_dataset": True}
        if kwargs.get("processing_class") is None:
            kwargs["processing_class"] = load_tokenizer(model, args)
        tokenizer = kwargs["processing_class"]
        self._limits = limits_of(model, args, tokenizer)
        self._eos_token_id = tokenizer.eos_token_id
        kwargs.setdefault("data_collator", TrajectoryCollator(tokenizer.pad_token_id or tokenizer.eos_token_id))
        for name in ("train_dataset", "eval_dataset"):
            if kwargs.get(name) is not None:
                kwargs[name] = self._as_tokens(kwargs[name], name.removesuffix("_dataset"))

    def _as_tokens(self, datasets: Any, name: str) -> Any:
        if isinstance(datasets, dict):
            return {key: self._as_tokens(dataset, key) for key, dataset in datasets.items()}
        return tokenized(datasets, name, self._eos_token_id, self._limits)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Evaluate; see [`~trl.SFTTrainer.evaluate`]. Other data are trajectories, too."""
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = self._as_tokens(eval_dataset, "eval")
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def count_items(self, batch: dict[str, Tensor]) -> Tensor:
        """The number of rows: a step's loss is averaged over them."""
        return torch.tensor(len(batch["input_ids"]), device=batch["input_ids"].device)

    @property
    def progress(self) -> float:
        """The share of the run's steps that have been made; 1 at evaluation, which measures the aim of the run."""
        steps = self.state.max_steps
        return min(1.0, self.state.global_step / max(1, steps - 1)) if self.model.training else 1.0

    def batch_loss(self, model: torch.nn.Module, inputs: dict[str, Tensor], rows: Rows) -> BatchLoss:
        """The loss of one batch, summed over rows."""
        answers = Answers(
            ids_BL=inputs["input_ids"],
            canvas_BL=inputs["labels"] != -100,
            text_BL=inputs["unmasked_at"] >= 0,
            unmasked_at_BL=inputs["unmasked_at"],
        )
        block_length, ratio = self.args.curriculum.at(self.progress)
        block_BL, behind_BL = active_blocks(answers, rows.uniform(noise.LEVEL, 1).squeeze(1), block_length)
        uniform_BL = rows.uniform(noise.MASK, block_BL.shape[1])
        if self.args.mask_order == "random":
            masked_BL = random_part(block_BL, uniform_BL, ratio)
        else:
            masked_BL = written_last(block_BL, answers, uniform_BL, ratio)
        views = views_of(block_BL, behind_BL, masked_BL, self.args.complementary)

        ids_RL, text_RL = answers.ids_BL[views.row_R], inputs["attention_mask"][views.row_R]
        outputs = model(
            input_ids=ids_RL.masked_fill(views.hidden_RL, self.mask_token_id),
            attention_mask=text_RL,
            logits_to_keep=predicting(self.model, views.read_RL),
            use_cache=False,
        )
        targets_M = ids_RL[views.read_RL]
        log_p_M = token_log_probs(outputs.logits, targets_M[:, None], self.mask_token_id).squeeze(1)
        temperature = self.args.certainty_temperature
        certainty_M = certainty_loss(outputs.logits, targets_M, self.mask_token_id, temperature)
        row_M = views.row_R[views.read_RL.nonzero(as_tuple=True)[0]]
        weight_M = (rows.weight_B / torch.bincount(row_M, minlength=len(block_BL)).clamp(min=1))[row_M]
        total = ((self.args.certainty_weight * certainty_M - log_p_M) * weight_M).sum()

        counted = rows.weight_B.sum()
        right_M = are_top(outputs.logits, targets_M).float()
        ratios: dict[str, Ratio] = {
            "loss/cross_entropy": ((-log_p_M * weight_M).sum(), counted),
            "loss/certainty": ((certainty_M * weight_M).sum(), counted),
            "masked_token_accuracy": ((right_M * weight_M).sum(), counted),
            "confidence": ((log_p_M.exp() * weight_M).sum(), counted),
        }
        if not self.model.training:
            ratios["loss"] = total, counted
        return BatchLoss(total, outputs, text_RL, ratios)
