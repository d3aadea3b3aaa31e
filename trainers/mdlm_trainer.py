"""Supervised fine-tuning of masked diffusion LMs: TRL's SFTTrainer with the masked-diffusion objective."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.trainer_utils import EvalLoopOutput, has_length
from trl import SFTTrainer

from conv_dlm.generation.capabilities import longest_context
from trainers import adapters
from trainers.checkpoints import replaced
from trainers.config_checks import check_kind
from trainers.denoiser_trainer import DenoiserTrainer
from trainers.losses import are_top, row_sums, token_log_probs
from trainers.masking import mask_rows, mask_windows
from trainers.mdlm_config import MDLMTrainingConfig
from trainers.metrics import Ratio, Ratios, StepClock
from trainers.model_card import MDLM_PAPER
from trainers.noise import Rows
from trainers.progressive import Chains
from trainers.routing import balancing_loss, check_balanced
from trainers.rows import first_row
from trainers.samples import SampleCallback, sample_options
from trainers.shifted import check_attention, predictable, predicting
from trainers.tokenizing import Check, as_trained, is_chat, load_tokenizer, tokenize

NOISE_BINS = 4  # of the loss by noise level
# Settings with which SFTTrainer leaves tokenized rows as they are: they have been cut, shuffled and labelled already.
LEFT_ALONE = {"max_length": None, "shuffle_dataset": False, "assistant_only_loss": False}


@dataclass(frozen=True)
class BatchLoss:
    """The loss of a micro-batch, summed over what `count_items` counts, and ratios for the log.

    Attributes:
        total (`FloatTensor` []): the loss.
        outputs: the model's.
        text (`Tensor` [rows, positions] of the forward): 0 for padding.
        ratios: by the name in the log.
    """

    total: Tensor
    outputs: Any
    text: Tensor
    ratios: Mapping[str, Ratio]


class MDLMTrainer(DenoiserTrainer, SFTTrainer):
    """Trainer of masked diffusion LMs (arXiv 2406.07524; on responses to prompts as in arXiv 2502.09992).

    Data, PEFT, quantisation and distribution are those of [`trl.SFTTrainer`]; the response is where an example's
    `labels` are not -100: the response and its EOS for prompt-completion data, everything for plain text. The loss is
    the sum of `-log p / t` over masked tokens, divided by the number of covered tokens in the whole batch (all ranks,
    all accumulation steps): an upper bound of the negative log-likelihood, in nats per token. Noise is drawn for each
    row of the global batch, so that neither accumulation nor the number of processes changes the result.

    Logged besides SFT's `loss`, `grad_norm`, `num_tokens`; with the prefix `eval_` at evaluation, where the noise is
    the same each time:
        - `nelbo`: the bound, in nats per covered token (at evaluation only)
        - `masked_token_accuracy`: share of masked tokens where the most probable token is the correct one
        - `loss/t_0.00-0.25` and so on: mean `-log p` of masked tokens, by the noise level of their row
        - `router_aux_loss`: what balances the experts, with `router_aux_loss_coef` (in training only)
        - `tokens_per_second`: tokens trained on, without padding, per second spent in steps

    Args:
        model (`str`, [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            A model whose `forward` takes a boolean `logits_to_keep` [B, L] and gives the logits [M, V] of those
            positions: all of `conv_dlm` with full attention, bare or with adapters. Where its `shift_logits` says so, a
            token is predicted from its left neighbour.
        args ([`MDLMTrainingConfig`], *optional*):
            Defaults to a config with the output folder "MDLM".
        kwargs:
            As for [`trl.SFTTrainer`].

    Raises:
        `ValueError`: tokenizer and model have no mask token, or no EOS; the model is causal, or sees block by block; an
            adapter that a canvas has no place for, or a target that is no layer; the data have no response column; a
            row has no response.
        `FloatingPointError`: a logged loss or gradient norm is not finite.
    """

    _tag_names = ["trl", "conv-dlm", "masked-diffusion"]
    _name = "MDLM"
    _paper = MDLM_PAPER
    loss_is_scaled_for_ga = True  # type: ignore[assignment]  # `compute_loss` divides by the items of the whole step
    _pads_evaluation = False
    _objective = "mdlm"

    args: MDLMTrainingConfig
    model: PreTrainedModel | PeftModel

    def __init__(
        self, model: "str | PreTrainedModel | PeftModel", args: MDLMTrainingConfig | None = None, **kwargs: Any
    ) -> None:
        self._noise_clock = (-1, -1)  # (global step, last forward in it)
        self._evaluated_rows: int | None = None
        self._ratios = {"train": Ratios(), "eval": Ratios()}
        self._step_clock = StepClock()
        args = args or MDLMTrainingConfig("MDLM")
        check_kind(args, MDLMTrainingConfig, self)
        if args.objective != self._objective:
            raise ValueError(
                f"`objective={args.objective!r}` is not what {type(self).__name__} trains: "
                + ("use BD3LMTrainer." if args.objective == "bd3lm" else f"set `objective={self._objective!r}`.")
            )
        if isinstance(kwargs.get("peft_config"), PeftConfig):
            options = args.model_init_kwargs if isinstance(args.model_init_kwargs, dict) else {}
            loading = dict(revision=options.get("revision") or "main", trust_remote_code=args.trust_remote_code)
            kwargs["peft_config"] = adapters.complete(kwargs["peft_config"], model, **loading)
        self._chains = (
            Chains(args.progressive_stages, args.progressive_batches) if args.masking == "progressive" else None
        )
        self._read(model, args, kwargs)
        with replaced(args, **LEFT_ALONE):
            super().__init__(model=model, args=args, **kwargs)
        if self._chains and has_length(self.train_dataset):
            raise ValueError(
                "`masking='progressive'` takes a stream: pass an IterableDataset, or set `streaming: true`."
            )
        adapters.check_adapters(self.model)
        adapters.keep_trainable(self.model)
        if args.eval_samples:
            self._add_samples()
        self.add_callback(self._step_clock)  # after the samples, whose time it leaves out
        self._find_mask_token()
        self._say_ends()
        self._check_attention()
        check_balanced(self.bare_model, args.router_aux_loss_coef)

    def _check_attention(self) -> None:
        check_attention(self.model)

    def _add_samples(self) -> None:
        if self.is_fsdp_enabled and not self.accelerator.is_fsdp2:
            raise ValueError("`eval_samples` does not work with FSDP 1: set `fsdp_version: 2`, or drop it.")
        model = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        options = sample_options(self.args, model, self.eval_dataset)
        sharded = self.is_fsdp_enabled or is_deepspeed_zero3_enabled()
        self.add_callback(SampleCallback(self, options, sharded))

    # Data

    def _read(self, model: Any, args: MDLMTrainingConfig, kwargs: dict[str, Any]) -> None:
        """Replace the datasets among SFTTrainer's arguments by tokenized rows, and add the tokenizer."""
        self._tokenized: list[Any] = []
        asked: Any = args.dataset_kwargs or {}
        self._reads = not asked.get("skip_prepare_dataset", False)
        if kwargs.get("train_dataset") is None or not self._reads:
            return
        if kwargs.get("processing_class") is None:
            kwargs["processing_class"] = load_tokenizer(model, args)
        self._reading_tokenizer = as_trained(kwargs["processing_class"], args)
        self._limits = limits_of(model, args, self._reading_tokenizer)
        self._row_formatter = kwargs.pop("formatting_func", None)
        self.chats = is_chat(first_row(kwargs["train_dataset"], "train"))
        kwargs["train_dataset"] = self._tokenize(kwargs["train_dataset"], args, "train", training=True)
        if kwargs.get("eval_dataset") is not None:
            kwargs["eval_dataset"] = self._tokenize(kwargs["eval_dataset"], args, "eval")

    def _tokenize(self, datasets: Any, args: MDLMTrainingConfig, name: str, training: bool = False) -> Any:
        """A dataset, or several by name, as they are trained on; what was tokenized here before stays as it is."""
        if isinstance(datasets, dict):
            return {key: self._tokenize(dataset, args, key) for key, dataset in datasets.items()}
        if not any(datasets is known for known in self._tokenized):
            datasets = tokenize(
                datasets,
                self._reading_tokenizer,
                args,
                name=name,
                pads=training or self._pads_evaluation,
                formatting_func=self._row_formatter,
                check=self.row_check(args, self._reading_tokenizer),
                limits=self._limits,
            )
            self._tokenized.append(datasets)
        return datasets

    @staticmethod
    def row_check(args: Any, tokenizer: PreTrainedTokenizerBase) -> Check | None:
        """What raises ValueError for a tokenized row that can't be trained on; see [`Tokenizing`]."""
        return None

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Evaluate; see [`~trl.SFTTrainer.evaluate`]. Other data are read as those that the trainer was made with."""
        if eval_dataset is not None and not isinstance(eval_dataset, str) and self._reads:
            eval_dataset = self._tokenize(eval_dataset, self.args, "eval")
        with replaced(self.args, **LEFT_ALONE):
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def _get_eval_sampler(self, eval_dataset: Any) -> None:
        """Evaluate in the order of the data, whatever the order of training: a row's noise depends on its index."""

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The micro-batches of the next step; with progressive masking they are kept for some steps."""
        chains = self._chains
        if chains is None:
            return super().get_batch_samples(epoch_iterator, num_batches, device)
        draw = super().get_batch_samples
        if not chains.chain.batches:  # at the start, or of a resumed run
            for _ in range(self.state.global_step // chains.stages * num_batches):
                next(epoch_iterator)
        chains.turn(self.state.global_step, lambda: draw(epoch_iterator, num_batches, device))
        return [dict(batch) for batch in chains.chain.batches], chains.chain.items

    # Noise

    def _next_rows(self, ids_BL: Tensor) -> Rows:
        """The rows of the coming forward: which of the global batch, or of the evaluation set, this rank holds.

        Accelerate deals batches to the ranks in turn, so that the batches of a step, ordered by micro-step and rank,
        are those that one process would have seen.
        """
        training = self.model.training
        seed, step = (self.args.seed, self.state.global_step) if training else (0, -1)
        forward = self._noise_clock[1] + 1 if self._noise_clock[0] == step else 0
        self._noise_clock = (step, forward)
        tensor_parallel = self.get_tp_size()  # ranks that share their rows
        rank, ranks = (n // tensor_parallel for n in (self.accelerator.process_index, self.accelerator.num_processes))
        size = self._train_batch_size if training else self.args.per_device_eval_batch_size
        index_B = torch.arange(len(ids_BL), device=ids_BL.device) + (forward * ranks + rank) * size
        total = size * ranks * self.args.gradient_accumulation_steps
        weight_B = torch.ones(len(ids_BL), device=ids_BL.device)
        if not training and self._evaluated_rows is not None:
            total = self._evaluated_rows
            weight_B = (index_B < total).float()
        return Rows(seed, step, index_B, total, weight_B)

    # Loss

    def count_items(self, batch: dict[str, Tensor]) -> Tensor:
        """The number of items that a step's loss is averaged over: tokens with a loss, or rows."""
        covered_BL = batch["labels"] != -100
        return covered_BL.sum() if self.args.loss_norm == "token" else covered_BL.any(1).sum()

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Tensor]], device: torch.device) -> Any:
        """`count_items` over the micro-batches of a step, and over all ranks."""
        if not batch_samples:
            return None
        items = torch.stack([self.count_items(batch) for batch in batch_samples]).sum().to(device)
        if self.args.world_size > 1:
            items = self.accelerator.gather(items).sum() // self.get_tp_size()
        return items

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of one batch; `inputs` hold `input_ids`, `labels` and `attention_mask`, each [B, L]."""
        if "attention_mask" not in inputs:
            raise ValueError(
                "The data collator gives no `attention_mask`, so padding can't be told from text; use another."
            )
        mode = "train" if self.model.training else "eval"
        batch = self.batch_loss(model, inputs, self._next_rows(inputs["input_ids"]))
        items, total, ratios = self.count_items(inputs), batch.total, dict(batch.ratios)
        if mode == "train" and self.args.router_aux_loss_coef:
            balance = balancing_loss(batch.outputs, self.bare_model.config, batch.text)
            total = total + self.args.router_aux_loss_coef * balance * items
            ratios["router_aux_loss"] = (balance.detach() * items, items)
        loss = total / (items if num_items_in_batch is None else num_items_in_batch)
        if num_items_in_batch is not None:
            # Gradients are averaged over ranks afterwards.
            loss = loss * (self.accelerator.num_processes // self.get_tp_size())
        self._ratios[mode].add(ratios, inputs["input_ids"].device)
        if mode == "train":
            self._count_tokens(inputs["attention_mask"])
        return (loss, batch.outputs) if return_outputs else loss

    def batch_loss(self, model: torch.nn.Module, inputs: dict[str, Tensor], rows: Rows) -> BatchLoss:
        """The bound of one batch, summed over covered tokens (or, by row, averaged over them)."""
        ids_BL, covered_BL = inputs["input_ids"], inputs["labels"] != -100
        chains = self._chains if self.model.training else None
        micro_batch = self._noise_clock[1]
        if chains:
            masking = chains.masking(micro_batch, rows, covered_BL, inputs["attention_mask"])
        elif self.args.masking == "window" and self.model.training:
            masking = mask_windows(
                rows,
                covered_BL,
                inputs["attention_mask"],
                self.args.min_noise,
                self.args.mask_window,
                self.args.window_share,
            )
        else:
            masking = mask_rows(rows, covered_BL, inputs["attention_mask"], self.args.min_noise)
        masked_BL = predictable(self.model, masking.masked_BL)

        # Projecting masked positions alone saves the [B, L, V] tensor: its memory, and half its time.
        outputs = model(
            input_ids=ids_BL.masked_fill(masking.hidden_BL, self.mask_token_id),
            attention_mask=inputs["attention_mask"],
            logits_to_keep=predicting(self.model, masked_BL),
            use_cache=False,
        )
        if chains:
            chains.advance(micro_batch, covered_BL, outputs.logits, self.mask_token_id)
        targets_M = ids_BL[masked_BL]
        log_p_M = token_log_probs(outputs.logits, targets_M[:, None], self.mask_token_id).squeeze(1)
        loss_B, count_B = -row_sums(log_p_M, masked_BL) * rows.weight_B, masked_BL.sum(1) * rows.weight_B
        uniform = self.args.loss_weights == "uniform" and self.model.training
        bound_B, covered_B = loss_B if uniform else loss_B * masking.weight_B, covered_BL.sum(1) * rows.weight_B
        by_token = self.args.loss_norm == "token"
        total = bound_B.sum() if by_token else (bound_B / covered_BL.sum(1)).sum()

        right_B = row_sums(are_top(outputs.logits, targets_M).float(), masked_BL) * rows.weight_B
        ratios: dict[str, Ratio] = {"masked_token_accuracy": (right_B.sum(), count_B.sum())}
        if not self.model.training:
            ratios["loss"] = total, (covered_B if by_token else rows.weight_B).sum()
            ratios["nelbo"] = bound_B.sum(), covered_B.sum()
        for low in range(NOISE_BINS):
            in_bin_B = (masking.noise_B * NOISE_BINS).long().clamp(max=NOISE_BINS - 1) == low
            name = f"loss/t_{low / NOISE_BINS:.2f}-{(low + 1) / NOISE_BINS:.2f}"
            ratios[name] = (loss_B * in_bin_B).sum(), (count_B * in_bin_B).sum()
        return BatchLoss(total, outputs, inputs["attention_mask"], ratios)

    # Log

    def _count_tokens(self, attention_mask_BL: Tensor) -> None:
        # The state is saved with every checkpoint, so that a resumed run counts on.
        tokens = int(self.accelerator.reduce(attention_mask_BL.sum(), "sum"))
        self.state.num_input_tokens_seen += tokens // self.get_tp_size()

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """The usual loop with the noise reset, and with metrics over all rows regardless of their batches."""
        self._noise_clock = (-1, -1)
        self._evaluated_rows = len(dataloader.dataset) if has_length(dataloader.dataset) else None
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        metrics = {f"{prefix}_{key}": value for key, value in self._ratios["eval"].read(self.accelerator).items()}
        return output._replace(metrics=(output.metrics or {}) | metrics)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and end the run if a loss is not finite."""
        if "loss" in logs:
            logs |= self._ratios["train"].read(self.accelerator)
            logs["num_tokens"] = self.state.num_input_tokens_seen
            logs |= self._step_clock.throughput(self.state.num_input_tokens_seen)
        super().log(logs, start_time)
        self.check_logged(logs)


def limits_of(model: Any, args: MDLMTrainingConfig | None, tokenizer: PreTrainedTokenizerBase) -> dict[str, int | None]:
    """What rows may hold and how long they may be, for a model or the name of one; see [`check_tokens`]."""
    config, grows = getattr(model, "config", None), False
    if args is not None:
        grows = args.eos_token is not None or args.chat_template_path is not None  # then TRL resizes the embedding
    if isinstance(model, str):
        options = args.model_init_kwargs if args is not None and isinstance(args.model_init_kwargs, dict) else {}
        remote = args is not None and args.trust_remote_code
        config = AutoConfig.from_pretrained(model, revision=options.get("revision") or "main", trust_remote_code=remote)
    size = getattr(config, "embedding_size", None) or getattr(config, "vocab_size", None)
    mask = tokenizer.mask_token_id
    return {
        "mask_token_id": getattr(config, "mask_token_id", None) if mask is None else mask,
        "vocabulary": None if grows else size,
        "context": longest_context(config),
    }
