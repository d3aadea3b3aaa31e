"""`DiffusionGenerationConfig`: Transformers' `GenerationConfig` with the fields of denoising.

As in Transformers, every field is `None` until somebody sets it; `_get_default_generation_params` is the one home of
the defaults, and the checkpoint's `generation_config.json` and the keywords of `generate` go before them.
"""

import copy
import math
from typing import Any

from transformers import GenerationConfig, PreTrainedConfig

from conv_dlm.generation.cache_policies import CACHE_POLICIES
from conv_dlm.generation.decode_types import DecodeType, get_decode_type
from conv_dlm.generation.early_exit import EXIT_SCHEDULES

# Fields that Transformers' class does not have, with their defaults.
DIFFUSION_DEFAULTS: dict[str, Any] = {
    "decode_type": "conv",
    "steps": 128,
    "block_length": None,
    "kernel_size": 128,
    "conv_mult": 1.0,
    "remasking": "low_confidence",
    "confidence_eos_eot_inf": False,
    "eos_fill": False,
    "alpha_on": 0.9,
    "t_on": 0.55,
    "t_off": 0.05,
    "eta": 0.04,
    "reference_normalizer": False,
    "threshold": 0.9,
    "factor": 1.0,
    "entropy_bound": 0.1,
    "exit_schedule": None,
    "exit_high": 7.5,
    "exit_low": 2.5,
    "exit_decay": 4.0,
    "exit_patience": False,
    "eos_threshold": None,
    "cache_refresh_interval": 16,
    "cache_margin": 0,
    "horizon": None,
    "compile": False,
    "mask_token_id": None,
    "output_history": False,
}
DEFAULT_MAX_NEW_TOKENS = 128
# fields of `GenerationConfig` that would be ignored, and why
WITHOUT_MEANING = {
    "use_cache": "keys and values are only kept by a `cache_implementation` of denoising",
    "prefill_chunk_size": "there is no prefill",
    "output_scores": "scores are kept for no position; ask for `output_history=True`",
    "output_logits": "logits are kept for no position; ask for `output_history=True`",
    "output_attentions": "a run has many forwards; call the model on a canvas of `output_history=True`",
    "output_hidden_states": "a run has many forwards; call the model on a canvas of `output_history=True`",
}
# fields -> least and greatest value
RANGES: dict[str, tuple[float, float]] = {
    "threshold": (0, 1),
    "eos_threshold": (0, 1),
    "factor": (0, math.inf),
    "entropy_bound": (0, math.inf),
    "exit_decay": (0, math.inf),
    "cache_margin": (0, math.inf),
}
REMASKING = ("low_confidence", "random")
# fields that say how another one works -> that field, and the values of it with which they have a meaning (None: any)
DEPENDENT_FIELDS: dict[str, tuple[str, tuple[Any, ...] | None]] = {
    **dict.fromkeys(("exit_high", "exit_low", "exit_patience"), ("exit_schedule", None)),
    "exit_decay": ("exit_schedule", ("exponential",)),
    **{
        name: ("cache_implementation", tuple(kind for kind, policy in CACHE_POLICIES.items() if name in policy.fields))
        for name in ("cache_refresh_interval", "cache_margin")
    },
    "compile_config": ("compile", (True,)),
}


class DiffusionGenerationConfig(GenerationConfig):
    """How a masked diffusion LM denoises its canvas; saved and loaded as `generation_config.json`.

    Fields of its own (those of `GenerationConfig` keep their meaning; see the notes below):

        decode_type (`str`, defaults to `"conv"`):
            A name of `conv_dlm.DECODE_TYPES`: which position weights meet which unmasking rule.
        steps (`int`, defaults to `128`):
            Steps S of the reverse process, at most one forward each. With blocks they are shared out over the blocks
            as evenly as whole numbers allow. Types with a threshold, a factor or an entropy bound go at their own pace.
        block_length (`int`, *optional*):
            Positions in a block (`semi_ar`, `llada`, `threshold`, ...) or in the window (`slide`). Default: one block.
            The last block is shorter where the length is no multiple.
        kernel_size (`int`, defaults to `128`):
            Width of the convolution in positions; even values grow by one. arXiv 2509.15188.
        conv_mult (`float`, defaults to `1.0`):
            Factor on the number of known neighbours inside tanh: s_i = tanh(conv_mult * u_i).
        remasking (`str`, defaults to `"low_confidence"`):
            What the confidence quota ranks by: `"low_confidence"` (keep the most probable) or `"random"`.
            arXiv 2502.09992.
        confidence_eos_eot_inf (`bool`, defaults to `False`):
            End tokens get no confidence, so that a quota decides them last; the others' confidence is taken among
            tokens that don't end the text. The name is LLaDA's.
        eos_fill (`bool`, defaults to `False`):
            As soon as an end token is decided, every response position at its right becomes one too
            (arXiv 2509.15188): fewer forwards, and a length that is fixed early.
        alpha_on, t_on, t_off, eta (`float`, default to `0.9`, `0.55`, `0.05`, `0.04`):
            ReMDM's loop (arXiv 2503.00307): between the times `t_on` and `t_off` the share `alpha_on` of tokens is kept
            decided, and each is masked again with probability `eta` a step.
        reference_normalizer (`bool`, defaults to `False`):
            Count k + 1 candidates in the global normaliser, of which k can be committed, as the code released with
            arXiv 2509.15188 does. The paper's formula counts k. Only for reproducing that code's figures.
        threshold (`float`, defaults to `0.9`):
            Confidence, times s_i, from which on a position is decided; in [0, 1]. arXiv 2505.22618.
        factor (`float`, defaults to `1.0`):
            f of the factor rule: n positions are decided at once if the least confident of them has at least
            1 - f / (n + 1); positive. arXiv 2505.22618.
        entropy_bound (`float`, defaults to `0.1`):
            Nats that the entropies, over s_i, of all but the most uncertain of the positions decided at once may have
            together; not negative. arXiv 2505.24857.
        exit_schedule (`str`, *optional*):
            A row takes the best tokens at all its masks as soon as their mean margin, the score of the best token less
            that of the next, reaches a threshold that falls from `exit_high` to `exit_low` as the run goes on:
            `"linear"`, `"cosine"` or `"exponential"` (SchED, arXiv 2512.02892), or `"staged"`, by thirds (Prophet,
            arXiv 2508.19982). Types at their own pace count the share of decided positions as progress.
        exit_high, exit_low (`float`, default to `7.5` and `2.5`):
            The threshold at the start and at the end, in logits.
        exit_decay (`float`, defaults to `4.0`):
            k of `"exponential"`: exit_low + (exit_high - exit_low) exp(-k progress).
        exit_patience (`bool`, defaults to `False`):
            Whether the best tokens have to be those of the step before, too, as in SchED's released code.
        eos_threshold (`float`, *optional*):
            Cut the text off behind a position that is to become an end token with at least this probability: what
            follows leaves the model's sight, and costs nothing any more. A training-free form of arXiv 2509.25188's
            truncation.
        cache_refresh_interval (`int`, defaults to `16`):
            With `cache_implementation="window"`: every how manieth forward of a row computes its whole canvas. 1 is
            exact, and saves nothing.
        cache_margin (`int`, defaults to `0`):
            With `cache_implementation="window"`: positions on either side of what a forward has to compute that are
            computed too.
        horizon (`int`, *optional*):
            Leave masks out of the forward that are more than so many positions behind the last known one (rounded up
            to the next 64 positions of the text). The model then sees a shorter canvas: another approximation than a
            cache, with or without one.
        compile (`bool`, defaults to `False`):
            Whether `torch.compile` compiles the model's forward, by `compile_config` if given (Transformers' default
            is `mode="reduce-overhead"`, CUDA graphs). Shapes come from few sizes; each is compiled once.
        mask_token_id (`int`, *optional*):
            Id of the mask token; read from the model's config where it has one.
        output_history (`bool`, defaults to `False`):
            With `return_dict_in_generate=True`, also return the canvas after each step.

    Notes on inherited fields:

        do_sample, temperature: what is drawn depends on the rule. Ancestral types draw both *whether* a position is
            decided and *which* token it gets, from weights raised to 1/temperature; confidence types draw the token
            only. Unset, ancestral types sample at temperature 1, confidence types take the most probable token.
            `do_sample=False` or `temperature=0` is the deterministic limit of each.
        top_k: candidates that a position chooses from; 0 means the whole vocabulary. Unset, the decode type's own.
        guidance_scale: classifier-free guidance, logits = u + guidance_scale * (c - u), with the prompt masked in u;
            1 is off. (LLaDA's `cfg_scale` is one less.)
        cache_implementation: what keeps keys and values between forwards, an approximation: `"prefix"` and `"dual"` for
            types with blocks (arXiv 2505.22618), `"window"` for all: away from the window they are kept. None is exact.
        max_new_tokens: length of the response; 0 decides only the masks inside `input_ids`. Default 128.
        max_length: length of prompt and response, where `max_new_tokens` is not given.
    """

    # None until set; the types are those after `generate` has filled in the defaults
    decode_type: str
    steps: int
    block_length: int | None
    kernel_size: int
    conv_mult: float
    remasking: str
    confidence_eos_eot_inf: bool
    eos_fill: bool
    alpha_on: float
    t_on: float
    t_off: float
    eta: float
    reference_normalizer: bool
    threshold: float
    factor: float
    entropy_bound: float
    exit_schedule: str | None
    exit_high: float
    exit_low: float
    exit_decay: float
    exit_patience: bool
    eos_threshold: float | None
    cache_refresh_interval: int
    cache_margin: int
    horizon: int | None
    compile: bool
    mask_token_id: int
    output_history: bool

    def __init__(self, **kwargs: Any) -> None:
        for name in DIFFUSION_DEFAULTS:  # before super, which validates
            setattr(self, name, kwargs.pop(name, None))
        super().__init__(**kwargs)

    @staticmethod
    def _get_default_generation_params() -> dict[str, Any]:
        # top_k and do_sample are left to the decode type, use_cache to nobody: a step recomputes the canvas
        inherited = GenerationConfig._get_default_generation_params() | {"use_cache": False}
        for name in ("max_length", "top_k", "do_sample", "temperature", "repetition_penalty"):
            inherited.pop(name)
        return inherited | DIFFUSION_DEFAULTS

    @classmethod
    def from_model_config(cls, model_config: PreTrainedConfig | dict) -> "DiffusionGenerationConfig":
        """The special tokens of a model's config; nothing else in it concerns generation."""
        values = model_config if isinstance(model_config, dict) else model_config.to_dict()
        names = ("bos_token_id", "eos_token_id", "pad_token_id", "mask_token_id")
        return cls(**{name: values[name] for name in names if values.get(name) is not None})

    @classmethod
    def from_any(cls, config: GenerationConfig) -> "DiffusionGenerationConfig":
        """The same settings in this class (`config` itself if it has it)."""
        if isinstance(config, cls):
            return config
        # a config marked as derived from the model's would lose its own fields when it is saved and loaded again
        values = {name: value for name, value in config.to_dict().items() if name != "_from_model_config"}
        converted = cls(**values)
        if hasattr(config, "_original_object_hash"):  # "unchanged since loaded", so that it can always be saved back
            converted._original_object_hash = hash(converted)
        return converted

    def to_diff_dict(self) -> dict[str, Any]:
        unset = {name for name in DIFFUSION_DEFAULTS if getattr(self, name) is None}
        return {name: value for name, value in super().to_diff_dict().items() if name not in unset}

    @property
    def resolved_decode_type(self) -> DecodeType:
        """The parts that `decode_type` names. Raises ValueError for an unknown name."""
        return get_decode_type(self.decode_type or DIFFUSION_DEFAULTS["decode_type"])

    @property
    def resolved_temperature(self) -> float:
        """Temperature of the draws, 0 where nothing is drawn."""
        if self.do_sample is False:
            return 0.0
        if self.temperature is not None:
            return float(self.temperature)
        return 1.0 if self.do_sample or self.resolved_decode_type.do_sample else 0.0

    def resolve(self) -> None:
        """Fill what the decode type decides (`do_sample`, `temperature`, `top_k`, `repetition_penalty`)."""
        decode_type = self.resolved_decode_type
        if isinstance(self.eos_token_id, list) and not self.eos_token_id:
            self.eos_token_id = None  # no end tokens
        self.temperature = self.resolved_temperature
        self.do_sample = self.temperature > 0
        self.top_k = decode_type.top_k if self.top_k is None else self.top_k
        if self.repetition_penalty is None:
            self.repetition_penalty = decode_type.repetition_penalty

    def validate(self, strict: bool = False, user_set_attributes: set[str] | None = None) -> None:
        """Check the values. Raises ValueError naming the field, its value and the remedy."""
        self._validate_diffusion_fields()
        # Transformers' own checks, without those that tie top_k, top_p and temperature to its meaning of do_sample,
        # and without its ban of max_new_tokens=0, which is infilling here
        inherited = GenerationConfig.__new__(GenerationConfig)
        inherited.__dict__.update(copy.copy(self.__dict__))
        inherited.do_sample = True
        inherited.cache_implementation = None  # the names are ours
        if self.max_new_tokens == 0:
            inherited.max_new_tokens = None
        GenerationConfig.validate(inherited, strict=strict, user_set_attributes=user_set_attributes)

    def _validate_diffusion_fields(self) -> None:
        if self.decode_type is not None:
            get_decode_type(self.decode_type)
        for name in ("steps", "block_length", "kernel_size", "cache_refresh_interval", "horizon"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"`{name}`={value!r} must be a whole number of at least 1.")
        if self.top_k is not None and (not isinstance(self.top_k, int) or self.top_k < 0):
            raise ValueError(f"`top_k`={self.top_k!r} must be a whole number; 0 means the whole vocabulary.")
        if self.max_new_tokens is not None and self.max_new_tokens < 0:
            raise ValueError(f"`max_new_tokens`={self.max_new_tokens} must not be negative; 0 means infilling only.")
        if self.temperature is not None and self.temperature < 0:
            raise ValueError(f"`temperature`={self.temperature} must not be negative; 0 draws nothing.")
        if self.do_sample and self.temperature == 0:
            raise ValueError("`do_sample=True` contradicts `temperature=0`; drop one of them.")
        for name in ("conv_mult", "repetition_penalty"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"`{name}`={value} must be positive.")
        self._validate_choices()
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                rule = f"between {least} and {most}" if most < math.inf else f"at least {least}"
                raise ValueError(f"`{name}`={value!r} must be {rule}.")
        for name, reason in WITHOUT_MEANING.items():
            if getattr(self, name, None):
                raise ValueError(f"`{name}`={getattr(self, name)!r} has no effect: {reason}. Drop it.")
        self._validate_remdm_fields()

    def _validate_choices(self) -> None:
        choices = {
            "remasking": REMASKING,
            "exit_schedule": tuple(EXIT_SCHEDULES),
            "cache_implementation": tuple(CACHE_POLICIES),
        }
        for name, known in choices.items():
            value = getattr(self, name, None)
            if value is not None and value not in known:
                raise ValueError(f"`{name}`={value!r} must be one of {known}.")

    def _validate_remdm_fields(self) -> None:
        loop = {name: getattr(self, name) for name in ("alpha_on", "t_on", "t_off", "eta")}
        for name, value in loop.items():
            if value is None:
                loop[name] = DIFFUSION_DEFAULTS[name]
            elif not 0 < value < 1:
                raise ValueError(f"`{name}`={value} must lie between 0 and 1, both excluded.")
        if loop["t_off"] >= loop["t_on"]:
            raise ValueError(
                f"`t_off`={loop['t_off']} must be below `t_on`={loop['t_on']}: time runs from 1 to 0, and nothing "
                "would ever be masked again."
            )
        if loop["alpha_on"] * (1 + loop["eta"]) > 1:
            raise ValueError(
                f"`eta`={loop['eta']} must be at most (1 - alpha_on) / alpha_on with `alpha_on`={loop['alpha_on']}; "
                "lower one of them."
            )
