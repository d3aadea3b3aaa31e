"""Arguments of [`DiffusionGRPOTrainer`]."""

from dataclasses import dataclass, field
from typing import Any

from trl import GRPOConfig

from trainers.config_checks import Refused, check_choice, check_least, name_checkpointing, of_part, refuse
from trainers.estimates import ESTIMATES, SETTINGS, Estimate
from trainers.handed_on import check_keys, try_what_is_handed_on
from trainers.token_free import TokenFree
from trainers.values import read_values

_REFUSED: tuple[Refused, ...] = (
    ("use_vllm", False, "rollouts are denoised by `generate`"),
    ("use_transformers_continuous_batching", False, "rollouts are denoised by `generate`"),
    ("generation_kwargs", None, "keywords of `generate` are in `rollout_kwargs`"),
    ("cache_implementation", None, "it is a keyword of `generate`, in `rollout_kwargs`"),
    ("use_liger_kernel", False, "Liger's fused losses are causal"),
    ("liger_kernel_config", None, "Liger's fused losses are causal"),
    ("cast_lm_head_to_fp32", False, "softmax is computed in float32 anyway"),
    ("entropy_coef", 0.0, "the entropy of a view has no gradient here"),
    ("use_adaptive_entropy", False, "the entropy of a view has no gradient here"),
    ("router_aux_loss_coef", 0.0, "experts are not balanced on canvases with masks"),
)
# Keywords of `generate` that have a field here, or that a rollout sets itself.
_FIELDS = ("max_new_tokens", "max_length", "temperature", "do_sample", "top_k", "top_p", "min_p", "repetition_penalty")
_ITS_OWN = (
    "generator", "streamer", "callback_on_step_end", "return_dict_in_generate", "output_history",
    "num_return_sequences",
)  # fmt: skip


@dataclass
class DiffusionGRPOConfig(TokenFree, GRPOConfig):
    """Configuration of [`DiffusionGRPOTrainer`]: TRL's `GRPOConfig`, how rollouts are denoised, and how their
    log-probabilities are estimated.

    Args:
        > Rollouts

        rollout_kwargs (`dict`, *optional*):
            Keywords of `generate`: `decode_type`, `steps`, `block_length`, `cache_implementation` (`"window"`,
            `"prefix"`, ...) and so on. The canvas is `max_completion_length`; `temperature`, `top_k`, `top_p`, `min_p`
            and `repetition_penalty` have fields of their own, TRL's.

        > Log-probabilities

        log_prob_estimate (`str`, *optional*, defaults to `"coupled"`):
            `"one_step"`, from the wholly masked completion (d1); `"coupled"`, from complementary masks (DiffuCoder);
            `"trajectory"`, in the order of the rollout (TraceRL); `"autoregressive"`, from left to right (JustGRPO);
            `"elbo"`, the bound by quadrature (GDPO). Or one of your own, see [`~trainers.estimates.Estimate`].
        prompt_mask_share (`float`, *optional*, defaults to `0.15`):
            Share of the prompt that is masked too. `"one_step"` only.
        coupled_pairs (`int`, *optional*, defaults to `1`):
            Pairs of complementary masks, each of two forwards. `"coupled"` only.
        coupled_low (`float`, *optional*, defaults to `0.2`):
            Lowest share of masks in a pair; the highest is 1 less this. `"coupled"` only.
        trajectory_stride (`int`, *optional*, defaults to `1`):
            Neighbouring steps of the rollout that share a forward. `"trajectory"` only.
        intermediate_rewards (`int`, *optional*, defaults to `0`):
            Drafts of each rollout, evenly spread over its steps, that are judged too. Their rewards say which steps
            were worth what (MDPO, see [`~trainers.drafts`]). `"trajectory"` only.
        elbo_points (`int`, *optional*, defaults to `2`):
            Noise levels, each a forward. `"elbo"` only.

        > Parameters of GRPOConfig with other defaults

        router_aux_loss_coef (`float`, *optional*, defaults to `0.0`):
            No loss that balances experts.
        logging_nan_inf_filter (`bool`, *optional*, defaults to `False`):
            A loss that is not finite ends the run instead of being averaged away.

    Raises:
        `ValueError`: an option of GRPO that does not apply to denoisers, or a value out of range.
    """

    _VALID_DICT_FIELDS = [*GRPOConfig._VALID_DICT_FIELDS, "rollout_kwargs"]

    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Kept off: a loss that is not finite ends the run."}
    )
    router_aux_loss_coef: float | None = field(default=0.0, metadata={"help": "Kept off: experts aren't balanced."})
    rollout_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keywords of `generate` for rollouts, as JSON."}
    )
    log_prob_estimate: str = field(
        default="coupled", metadata={"help": f"Estimate of log-probabilities: {', '.join(ESTIMATES)}."}
    )
    prompt_mask_share: float = of_part(SETTINGS["prompt_mask_share"])
    coupled_pairs: int = of_part(SETTINGS["coupled_pairs"])
    coupled_low: float = of_part(SETTINGS["coupled_low"])
    trajectory_stride: int = of_part(SETTINGS["trajectory_stride"])
    intermediate_rewards: int = field(
        default=0, metadata={"help": "Drafts of a rollout that are judged, too. `trajectory` only."}
    )
    elbo_points: int = of_part(SETTINGS["elbo_points"])

    def __post_init__(self) -> None:
        read_values(self)
        check_keys(self)
        name_checkpointing(self)
        super().__post_init__()
        refuse(self, _REFUSED)
        try_what_is_handed_on(self)
        check_choice("log_prob_estimate", self.log_prob_estimate, ESTIMATES)
        for name, its in SETTINGS.items():
            its.check(name, getattr(self, name, None))
        self._check_drafts()
        said = self.rollout_kwargs or {}
        for name in said:
            if name in _FIELDS:
                field_name = "max_completion_length" if name.startswith("max_") else name
                raise ValueError(f"`rollout_kwargs` has {name!r}: set `{field_name}` of the config instead.")
            if name in _ITS_OWN:
                raise ValueError(f"`rollout_kwargs` has {name!r}, which rollouts set themselves. Leave it out.")
        if self.temperature <= 0:
            raise ValueError(
                f"`temperature={self.temperature}` draws nothing, so that all completions of a prompt would be the "
                "same: set it above 0."
            )
        assert self.steps_per_generation is not None  # set by GRPOConfig
        lasts = self.steps_per_generation * self.num_iterations
        saved_after = int(self.save_steps) * self.gradient_accumulation_steps  # micro-batches; 0: a share of the run
        if self.save_strategy == "steps" and saved_after % lasts:
            raise ValueError(
                f"`save_steps={self.save_steps:g}` times `gradient_accumulation_steps="
                f"{self.gradient_accumulation_steps}` must be a multiple of {lasts}, the micro-batches that are "
                "trained on the same completions: in between a run can't be resumed exactly."
            )

    def _check_drafts(self) -> None:
        check_least(self, intermediate_rewards=0)
        if self.intermediate_rewards and self.log_prob_estimate != "trajectory":
            raise ValueError(
                f"`intermediate_rewards={self.intermediate_rewards}` is about the steps of a rollout: set "
                f"`log_prob_estimate: trajectory` in place of {self.log_prob_estimate!r}."
            )
        if self.intermediate_rewards and self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError(
                f"`multi_objective_aggregation={self.multi_objective_aggregation!r}` is not there for "
                "`intermediate_rewards`: their sum is normalized. Leave one of them out."
            )

    def estimate(self) -> Estimate:
        """The estimate that `log_prob_estimate` names, with its settings."""
        kind = ESTIMATES[self.log_prob_estimate]
        return kind(**{name: getattr(self, name) for name in kind.settings() if hasattr(self, name)})

    def generate_options(self) -> dict[str, Any]:
        """Keywords of `generate` for a rollout."""
        assert not isinstance(self.rollout_kwargs, str)  # TrainingArguments reads JSON
        options: dict[str, Any] = {"max_new_tokens": self.max_completion_length, "temperature": self.temperature}
        options["top_k"] = self.top_k
        if self.top_p < 1:
            options["top_p"] = self.top_p
        if self.min_p is not None:
            options["min_p"] = self.min_p
        if self.repetition_penalty != 1:
            options["repetition_penalty"] = self.repetition_penalty
        return options | (self.rollout_kwargs or {})
