"""Reinforcement learning of masked diffusion LMs: TRL's GRPOTrainer with denoised rollouts and estimated
log-probabilities."""

import inspect
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import PeftConfig
from torch import Tensor
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

from conv_dlm.answering.answers import until_end
from conv_dlm.answering.ends import end_ids
from conv_dlm.generation.mixin import DiffusionGenerationMixin
from conv_dlm.generation.parts.rules import UNMASKING_RULES
from trainers import adapters, noise
from trainers.config_checks import check_kind
from trainers.denoiser_trainer import DenoiserTrainer
from trainers.drafts import stage_advantages, stage_values, stages_of
from trainers.estimates import Completions, log_probs
from trainers.grpo_config import DiffusionGRPOConfig
from trainers.model_card import GRPO_PAPER
from trainers.prompts import check_prompts, is_chat
from trainers.rollouts import Rollout, denoise
from trainers.sharded import whole_weights
from trainers.shifted import check_attention

KEPT = "log_probs_of"  # prefix of what a batch keeps of its rollout


@dataclass(frozen=True)
class Kept:
    """What estimates need of a rollout beside its text. Shapes are [B, ...], so that TRL can shuffle and split it.

    Attributes:
        canvas_BC, unmasked_at_BC (`LongTensor` [B, C]): see [`~trainers.rollouts.Rollout`].
        seeds_BI (`LongTensor` [B, I]): of the draws of each row, for each of the passes over it.
    """

    canvas_BC: Tensor
    unmasked_at_BC: Tensor
    seeds_BI: Tensor

    def as_inputs(self) -> dict[str, Tensor]:
        return {f"{KEPT}/{name}": value for name, value in vars(self).items()}

    @classmethod
    def of_inputs(cls, inputs: dict[str, Any]) -> "Kept":
        return cls(**{name: inputs[f"{KEPT}/{name}"] for name in cls.__dataclass_fields__})


class DiffusionGRPOTrainer(DenoiserTrainer, GRPOTrainer):
    """GRPO (arXiv 2402.03300) of masked diffusion LMs: TRL's trainer, rewards, losses and log.

    `generate` denoises the completions, with any decode type and cache. Each row has its own draws, whatever the number
    of processes. `log_prob_estimate` estimates the log-probabilities from views of the completions
    ([`~trainers.estimates`]). The policy, the policy of the rollout and the reference get the same masks; each of
    `num_iterations` passes has other ones. Where GRPO needs no old policy (`num_iterations=1`), none is computed.

    Logged besides what [`trl.GRPOTrainer`] logs (`reward`, `rewards/*`, `completions/*`, `kl`, `entropy`,
    `clip_ratio/*`):
        - `rollout/forwards`: forwards of the model for a completion
        - `rollout/tokens_per_forward`: tokens of a completion, over its forwards
        - `views`: canvases that a completion's log-probabilities were read from
        - `drafts/reward_1`, ...: with `intermediate_rewards`, mean reward of the drafts, first to last

    Args:
        model (`str`, [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            As for [`MDLMTrainer`]; block by block models with the estimates `"trajectory"` and `"autoregressive"`.
        reward_funcs (a function or a list of them):
            As for [`trl.GRPOTrainer`]; [`trainers.rewards`] has some. They get the columns of the data, and the lists
            `forwards` and `unmasked_at` of the rollouts.
        args ([`DiffusionGRPOConfig`], *optional*):
            Defaults to a config with the output folder "GRPO".
        kwargs:
            As for [`trl.GRPOTrainer`].

    Raises:
        `ValueError`: rollouts that `generate` would refuse; an estimate that doesn't fit the model or the decode type;
            data without prompts.
        `FloatingPointError`: a logged loss or gradient norm is not finite.
    """

    _name = "GRPO"
    _paper = GRPO_PAPER

    args: DiffusionGRPOConfig

    def __init__(
        self,
        model: Any,
        reward_funcs: Any,
        args: DiffusionGRPOConfig | None = None,
        **kwargs: Any,
    ) -> None:
        args = args or DiffusionGRPOConfig("GRPO")
        check_kind(args, DiffusionGRPOConfig, self)
        for name in ("rollout_func", "tools", "environment_factory"):
            if kwargs.get(name):
                raise ValueError(f"`{name}` is for models that write from left to right in turns. Leave it out.")
        for name in ("train_dataset", "eval_dataset"):
            if kwargs.get(name) is not None:
                check_prompts(kwargs[name], name.removesuffix("_dataset"))
        if isinstance(kwargs.get("peft_config"), PeftConfig):
            options = args.model_init_kwargs if isinstance(args.model_init_kwargs, dict) else {}
            loading = dict(revision=options.get("revision") or "main", trust_remote_code=args.trust_remote_code)
            kwargs["peft_config"] = adapters.complete(kwargs["peft_config"], model, **loading)
        self.estimate = args.estimate()
        self._kept: Kept | None = None  # of the rollout that is being scored
        self._drafts: list[Tensor] = []
        self._scoring = False
        self._rollout_clock = (-1, -1)  # (global step, rollouts in it)
        with warnings.catch_warnings():  # that its interface may change: contract.py checks what we rely on
            warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
            super().__init__(model, reward_funcs, args, rollout_func=roll_out, **kwargs)
        adapters.check_adapters(self.model)
        adapters.keep_trainable(self.model)
        self._find_mask_token()
        self._say_ends()
        self.eos_token_ids = end_ids(self._tokenizer, self.bare_model.generation_config)
        self.chats = is_chat(self.train_dataset)
        self._check_rollouts()
        if args.intermediate_rewards and not all(map(is_plain, self.reward_funcs)):
            raise ValueError("`intermediate_rewards` asks plain functions, and no models or coroutines as rewards.")

    def _check_rollouts(self) -> None:
        """Raise ValueError for rollouts that can't be, and for an estimate that doesn't fit them."""
        model, args = self.bare_model, self.args
        if self.is_fsdp_enabled and not self.accelerator.is_fsdp2:
            raise ValueError(
                "Rollouts take another number of forwards in each process, which FSDP 1 can't do: set "
                "`fsdp_version: 2`, or launch by configs/accelerate/ddp.yaml, zero2.yaml or zero3.yaml."
            )
        if not isinstance(model, DiffusionGenerationMixin):
            raise ValueError(
                f"`generate` of {type(model).__name__} does not denoise: start from a masked diffusion LM, or see "
                "`conv_dlm.enable_diffusion`."
            )
        if not self.estimate.follows_rollout:
            check_attention(model)
        any_text = torch.full((1, 1), int(self.mask_token_id == 0))
        config = model.check_generate(
            any_text, attention_mask=torch.ones_like(any_text), strict=True, **args.generate_options()
        )
        if self.estimate.exact_order and UNMASKING_RULES[config.resolved_decode_type.rule].remasks:
            raise ValueError(
                f"`log_prob_estimate={args.log_prob_estimate!r}` follows the order of a rollout, and "
                f"`decode_type={config.decode_type!r}` takes tokens back: choose another of them."
            )

    # Rollouts

    def _draw_seeds(self, rows: int) -> Tensor:
        """Seeds of the coming rollout's rows, for each pass over them: `LongTensor` [B, I].

        They depend only on the step and the row of the whole batch; at evaluation, on the batch's number.
        """
        training = self.model.training
        step = self.state.global_step if training else -1
        count = self._rollout_clock[1] + 1 if self._rollout_clock[0] == step else 0
        self._rollout_clock = (step, count)
        passes = self.num_iterations if training else 1
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        index_B = torch.arange(rows) + (count * ranks + rank) * rows
        seed = self.args.seed if training else 0
        seeds = [noise.row_seeds(seed, step * passes + one, index_B) for one in range(passes)]
        return torch.stack(seeds, 1).to(self.accelerator.device)

    def roll_out(self, prompt_ids: Sequence[Sequence[int]]) -> Rollout:
        """Denoise completions with the current weights."""
        seeds_BI = self._draw_seeds(len(prompt_ids))
        checkpointing: Any = self.args.gradient_checkpointing_kwargs
        plugin: Any = getattr(self.accelerator.state, "fsdp_plugin", None)
        with (
            whole_weights(self.model_wrapped, plugin is None or bool(plugin.reshard_after_forward)),
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                gradient_checkpointing_kwargs=checkpointing,
            ) as model,
        ):
            rollout = denoise(
                model,
                prompt_ids,
                seeds_BI[:, 0].tolist(),
                self._tokenizer.pad_token_id,
                keep_drafts=self.args.intermediate_rewards > 0 and self.model.training,
                **self.args.generate_options(),
            )
        self._kept = Kept(rollout.canvas_BC, rollout.unmasked_at_BC, seeds_BI)
        self._drafts = rollout.drafts
        return rollout

    def count_rollout(self, rollout: Rollout) -> None:
        """Log what the rollout took, over all processes."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        counted = torch.tensor([rollout.forwards, rollout.lengths], dtype=torch.float32).T
        gathered: Any = self.accelerator.gather(counted.to(self.accelerator.device))
        forwards, tokens = gathered.unbind(1)
        metrics["rollout/forwards"].append(float(forwards.mean()))
        metrics["rollout/tokens_per_forward"].append(float((tokens / forwards.clamp(min=1)).mean()))

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """A rollout with its rewards. The log-probabilities before the update are [B, I, T], one for each pass."""
        self._scoring = True
        try:
            output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        finally:
            self._scoring = False
        assert self._kept is not None
        if self._drafts:
            output["advantages"] = self.judge_drafts(inputs, output, self._kept)
        return output | self._kept.as_inputs()

    def judge_drafts(self, inputs: list[dict[str, Any]], output: dict[str, Any], kept: Kept) -> Tensor:
        """The advantage of each token by the stage that it was written in: `FloatTensor` [B, T]."""
        mask_BT = output["completion_mask"].bool()
        text_BC = torch.nn.functional.pad(mask_BT, (0, kept.canvas_BC.shape[1] - mask_BT.shape[1]))
        stages = self.args.intermediate_rewards + 1
        stage_BC, last_BN = stages_of(kept.unmasked_at_BC, text_BC, stages)
        drafts_SBC, rows_B = torch.stack(self._drafts), torch.arange(len(inputs))
        texts = [drafts_SBC[last_B.cpu().clamp(max=len(drafts_SBC) - 1), rows_B] for last_B in last_BN.T[:-1]]
        rewards = [self.reward_texts(inputs, canvas_BC) for canvas_BC in (*texts, kept.canvas_BC)]
        rewards_BN = self.accelerator.gather(torch.stack(rewards, 1).to(self.accelerator.device))
        for stage, mean in enumerate(rewards_BN.mean(0).tolist(), 1):
            self._metrics["train"][f"drafts/reward_{stage}"].append(mean)
        every_BN = stage_advantages(stage_values(rewards_BN), int(self.num_generations or 1), self.scale_rewards)
        start = self.accelerator.process_index * len(inputs)
        return every_BN[start : start + len(inputs)].gather(1, stage_BC)[:, : mask_BT.shape[1]]

    def reward_texts(self, inputs: list[dict[str, Any]], canvas_BC: Tensor) -> Tensor:
        """The weighted rewards of texts to the prompts of `inputs`: `FloatTensor` [B]."""
        ends = set(self.eos_token_ids)
        ids = [until_end(row, ends)[0] for row in canvas_BC.tolist()]
        texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        completions = [[{"role": "assistant", "content": text}] for text in texts] if self.chats else texts
        columns = {name: [row[name] for row in inputs] for name in inputs[0] if name not in ("prompt", "completion")}
        hooks = {"trainer_state": self.state, "log_extra": say_nothing, "log_metric": say_nothing}
        prompts, total_B = [row["prompt"] for row in inputs], torch.zeros(len(inputs))
        functions: Any = self.reward_funcs
        for function, weight in zip(functions, self.reward_weights.tolist(), strict=True):
            values = function(prompts=prompts, completions=completions, completion_ids=ids, **(columns | hooks))
            total_B += weight * torch.tensor([0.0 if value is None else float(value) for value in values])
        return total_B

    # Log-probabilities

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self._kept = Kept.of_inputs(inputs)
        number = self._pass
        before = {name: inputs[name][:, number] for name in PER_TOKEN if name in inputs}
        loss: Tensor = super()._compute_loss(model, inputs | before)
        return loss

    @property
    def _pass(self) -> int:
        """Which of the passes over a rollout this is."""
        assert self.args.steps_per_generation is not None
        return self._step // self.args.steps_per_generation % self.num_iterations if self.model.training else 0

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        """The estimate for the last `logits_to_keep` positions, [B, T]; while a rollout is scored, of every pass."""
        kept = self._kept
        assert kept is not None
        completions = on_canvas(input_ids, attention_mask, logits_to_keep, kept)
        passes = range(kept.seeds_BI.shape[1]) if self._scoring else [self._pass]
        found = [
            self._estimate(model, completions, kept.seeds_BI[:, one], batch_size or len(input_ids)) for one in passes
        ]
        start = input_ids.shape[1] - logits_to_keep
        logps, entropies = (
            torch.stack([pair[which][:, start : start + logits_to_keep] for pair in found], 1) for which in (0, 1)
        )
        if not self._scoring:
            logps, entropies = logps[:, 0], entropies[:, 0]
        return logps, entropies if compute_entropy else None, None

    def _estimate(
        self, model: Any, completions: Completions, seeds_B: Tensor, batch_size: int
    ) -> tuple[Tensor, Tensor]:
        parts = []
        for start in range(0, len(seeds_B), batch_size):
            rows = slice(start, start + batch_size)
            some = Completions(**{name: value[rows] for name, value in vars(completions).items()})
            seeds = seeds_B[rows]
            views = self.estimate(some, partial(noise.uniform, seeds))
            with self.accelerator.autocast():
                parts.append(
                    log_probs(model, some, views, self.mask_token_id, self.temperature, shifted=self.bare_model)
                )
            if not self._scoring:
                mode = "train" if self.model.training else "eval"
                self._metrics[mode]["views"].append(len(views.row_R) / len(seeds))
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    # Evaluation and log

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """The usual loop with the draws reset, so that evaluations compare."""
        self._rollout_clock = (-1, -1)
        return super().evaluation_loop(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and end the run if a loss is not finite."""
        super().log(logs, start_time)
        self.check_logged(logs)


PER_TOKEN = ("old_per_token_logps", "ref_per_token_logps")  # of a batch: what policies of before say of it


def roll_out(prompts: list[Any], trainer: Any) -> dict[str, Any]:
    """TRL's `rollout_func`: one completion to each of the prompts. Those with several answers come as often."""
    prompt_ids = trainer._tokenize_prompts(prompts)[0]
    rollout = trainer.roll_out(prompt_ids)
    trainer.count_rollout(rollout)
    return {
        "prompt_ids": prompt_ids,
        "completion_ids": rollout.completion_ids,
        "logprobs": None,
        "forwards": rollout.forwards,
        "unmasked_at": rollout.unmasked_at_BC.tolist(),
    }


def is_plain(reward: Any) -> bool:
    """Whether a reward is a function that answers at once."""
    return not isinstance(reward, torch.nn.Module) and not inspect.iscoroutinefunction(reward)


def say_nothing(*args: Any) -> None:
    """Where rewards may log: drafts are no completions."""


def on_canvas(input_ids: Tensor, attention_mask: Tensor, completion_length: int, kept: Kept) -> Completions:
    """TRL's prompts and completions on the canvases that they were written on.

    Args:
        input_ids, attention_mask (`LongTensor` [B, P + T]): prompts, padded at the left, and completions, padded at the
            right to `completion_length` T.
    """
    start = input_ids.shape[1] - completion_length
    canvas_BC = kept.canvas_BC
    ids_BL = torch.cat([input_ids[:, :start], canvas_BC], 1)
    ones_BC = torch.ones_like(canvas_BC)
    text_BT = attention_mask[:, start:].bool()[:, : canvas_BC.shape[1]]
    text_BC = torch.nn.functional.pad(text_BT, (0, canvas_BC.shape[1] - text_BT.shape[1]))
    nothing_BP = torch.zeros_like(input_ids[:, :start], dtype=torch.bool)
    return Completions(
        ids_BL=ids_BL,
        attention_mask_BL=torch.cat([attention_mask[:, :start], ones_BC], 1),
        canvas_BL=torch.cat([nothing_BP, ones_BC.bool()], 1),
        text_BL=torch.cat([nothing_BP, text_BC], 1),
        unmasked_at_BL=torch.cat([torch.full_like(input_ids[:, :start], -1), kept.unmasked_at_BC], 1),
    )
