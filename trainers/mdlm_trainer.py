"""Supervised fine-tuning of masked diffusion LMs: TRL's SFTTrainer with the masked-diffusion objective."""

import math
import random
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTTrainer

from trainers.losses import draw_masks, noise_levels, token_losses
from trainers.mdlm_config import MDLMConfig


class MDLMTrainer(SFTTrainer):
    """Trainer of masked diffusion LMs (arXiv 2406.07524; on responses to prompts as in 2502.09992, section 2.3).

    Data, PEFT, quantisation, distribution and checkpoints are those of [`trl.SFTTrainer`]; an example's maskable
    region is where its `labels` are not -100: the response and its EOS for prompt-completion data, everything for
    plain text. The loss is the sum of `-log p / t` over masked tokens, divided by the number of maskable tokens in
    the whole batch (all ranks, all accumulation steps): an upper bound of the negative log-likelihood, in nats a token.

    Logged besides SFT's `loss`, `grad_norm`, `num_tokens`:
        - `masked_token_accuracy`: share of masked tokens whose most probable token is the right one
        - `eval_nelbo`: the bound over the whole evaluation set, in nats a maskable token, on the same noise each time

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]):
            A model whose `forward` takes a boolean `logits_to_keep` [B, L] and gives the logits [M, V] of those
            positions, unshifted: LLaDA and MDLM of `conv_dlm`, and bare or with adapters.
        args ([`MDLMConfig`], *optional*):
            Defaults to a config with the output folder "MDLM".
        kwargs:
            As for [`trl.SFTTrainer`].

    Raises:
        `ValueError`: a tokenizer and model without mask token, or without EOS.
        `FloatingPointError`: a loss or gradient norm that is not finite, found when it is logged.
    """

    _tag_names = ["trl", "conv-dlm", "masked-diffusion"]
    _name = "MDLM"

    args: MDLMConfig
    model: PreTrainedModel | PeftModel

    def __init__(self, model: "str | PreTrainedModel", args: MDLMConfig | None = None, **kwargs: Any):
        self._noise_clock = (-1, 0)  # (global step, forwards in it): seeds the noise
        self._eval_sums: list[tuple[float, int]] = []
        super().__init__(model=model, args=args or MDLMConfig("MDLM"), **kwargs)
        mask = self._tokenizer.mask_token_id
        if mask is None:
            mask = getattr(self.model.config, "mask_token_id", None)
        if mask is None:
            raise ValueError("Neither tokenizer nor model names a mask token: set `model.config.mask_token_id`.")
        self.mask_token_id = int(mask)

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, packing: bool, formatting_func: Any, dataset_name: str
    ) -> Any:
        """SFT's preparation; then responses end in EOS, and those of the training set in some more (see the config)."""
        dataset = super()._prepare_dataset(dataset, processing_class, args, packing, formatting_func, dataset_name)
        if self._tokenizer.eos_token_id is None:
            raise ValueError("The tokenizer has no EOS token, so responses could not end: set `tokenizer.eos_token`.")
        training = dataset_name == "train"
        return dataset.map(
            _end_with_eos,
            with_indices=True,
            fn_kwargs=dict(
                tokenizer=self._tokenizer,
                seed=args.seed,
                max_extra=args.max_extra_eos if training else 0,
                canvas=args.canvas_length if training else None,
                canvas_share=args.canvas_share,
                max_length=args.max_length,
            ),
        )

    def _noise_generator(self) -> torch.Generator:
        """A generator for the coming forward that depends on nothing but seed, step, micro-step and rank.

        So a resumed run draws what the uninterrupted one would have, ranks differ, and evaluations compare: those do
        not even depend on the seed.
        """
        seed, step = (self.args.seed, self.state.global_step) if self.model.training else (0, -1)
        self._noise_clock = (step, self._noise_clock[1] + 1 if self._noise_clock[0] == step else 0)
        source = random.Random(f"{seed} {self._noise_clock} {self.accelerator.process_index}")
        return torch.Generator().manual_seed(source.getrandbits(63))

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The bound of one batch; `inputs` hold `input_ids`, `labels` and `attention_mask`, each [B, L]."""
        mode = "train" if self.model.training else "eval"
        ids_BL, labels_BL, device = inputs["input_ids"], inputs["labels"], inputs["input_ids"].device
        generator = self._noise_generator()
        noise_B = noise_levels(
            len(ids_BL),
            self.args.min_noise,
            rank=self.accelerator.process_index,
            ranks=self.accelerator.num_processes,
            generator=generator,
        )
        # Drawn on the CPU, which gives the same noise on every device.
        masked_BL, weight_B = draw_masks((labels_BL != -100).cpu(), noise_B, generator=generator)
        masked_BL, weight_B = masked_BL.to(device), weight_B.to(device)

        noisy_BL = ids_BL.masked_fill(masked_BL, self.mask_token_id)
        # Projecting masked positions alone saves the [B, L, V] tensor: its memory, and half its time.
        outputs = model(
            input_ids=noisy_BL,
            attention_mask=inputs["attention_mask"],
            logits_to_keep=masked_BL,
            use_cache=False,
        )
        targets_M = labels_BL[masked_BL]
        losses_M = token_losses(outputs.logits, targets_M, self.mask_token_id)
        weighted = (losses_M * weight_B[:, None].expand_as(masked_BL)[masked_BL]).sum()

        maskable = (labels_BL != -100).sum()
        loss = weighted / (maskable if num_items_in_batch is None else num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # the gradients are averaged over ranks afterwards

        correct = (outputs.logits.argmax(-1) == targets_M).sum()
        tokens = inputs["attention_mask"].sum()
        self._count(mode, torch.stack([weighted.detach().float(), maskable, correct, masked_BL.sum(), tokens]))
        return (loss, outputs) if return_outputs else loss

    def _count(self, mode: str, totals: torch.Tensor) -> None:
        """Add one batch to the metrics; `totals`: weighted loss, maskable, correct, masked and all tokens."""
        weighted, maskable, correct, masked, tokens = self.accelerator.reduce(totals, "sum").tolist()
        self._metrics[mode]["masked_token_accuracy"].append(correct / masked)
        if mode == "train":
            if not self._total_train_tokens:  # of a resumed run, the log knows how far it had come
                logged = [entry["num_tokens"] for entry in self.state.log_history if "num_tokens" in entry]
                self._total_train_tokens = int(logged[-1]) if logged else 0
            self._total_train_tokens += int(tokens)
        else:
            self._eval_sums.append((weighted, int(maskable)))
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """The usual loop, on noise that starts anew, and the bound over all its tokens."""
        self._noise_clock, self._eval_sums = (-1, -1), []
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        bound = sum(weighted for weighted, _ in self._eval_sums) / sum(tokens for _, tokens in self._eval_sums)
        return output._replace(metrics=(output.metrics or {}) | {f"{prefix}_nelbo": bound})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """Load weights to resume with. Trainer's own way knows no checkpoint with other tensor names than the model.

        Adapters, FSDP and DeepSpeed name their tensors as the model does, and stay with Trainer.
        """
        model = self.model if model is None else model
        if isinstance(model, PreTrainedModel) and not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            model.load_state_dict(type(model).from_pretrained(resume_from_checkpoint, dtype="auto").state_dict())
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        """Load the best checkpoint as one to resume with is loaded."""
        if isinstance(self.model, PreTrainedModel) and not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            self._load_from_checkpoint(str(self.state.best_model_checkpoint))
        else:
            super()._load_best_model()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and end the run on a loss that is not finite: it never recovers, and hides in averages."""
        super().log(logs, start_time)
        for key in ("loss", "grad_norm", "eval_nelbo"):
            if not math.isfinite(logs.get(key, 0.0)):
                raise FloatingPointError(
                    f"`{key}` is {logs[key]} at step {self.state.global_step}. The last checkpoint is in order; lower "
                    "`learning_rate` or `max_grad_norm`, or train in float32."
                )


def _end_with_eos(
    row: dict[str, Any],
    index: int,
    *,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    max_extra: int,
    canvas: int | None,
    canvas_share: float,
    max_length: int | None,
) -> dict[str, Any]:
    """Cut the white space that chat templates write after a closing EOS, and pad the response with EOS if asked.

    The number of further EOS depends on `seed` and `index` alone. A response cut off by `max_length` gets none.
    """
    ids, labels, eos = row["input_ids"], row["labels"], tokenizer.eos_token_id
    if eos in labels:
        end = len(labels) - labels[::-1].index(eos)
        if not str(tokenizer.decode(ids[end:])).strip():
            ids, labels = ids[:end], labels[:end]
    if not labels or labels[-1] != eos:
        return {"input_ids": ids, "labels": labels}

    draw = random.Random(f"{seed} {index}")
    extra = draw.randint(0, max_extra)
    if canvas is not None and draw.random() < canvas_share:
        extra = max(0, canvas - sum(label != -100 for label in labels))
    if max_length is not None:
        extra = min(extra, max_length - len(ids))
    return {"input_ids": ids + [eos] * extra, "labels": labels + [eos] * extra}
