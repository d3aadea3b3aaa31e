"""`DiffusionGenerationConfig`: Transformers' `GenerationConfig` with the settings of denoising.

As in Transformers, every field is `None` until somebody sets it. The parts are the one home of the defaults; the
checkpoint's `generation_config.json` and the keywords of `generate` go before them.
"""

import difflib
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import CompileConfig, GenerationConfig, PreTrainedConfig

from conv_dlm.generation.arguments import id_list
from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.parts.cache_policies import CACHE_POLICIES
from conv_dlm.generation.parts.decode_types import DECODE_TYPES, DecodeType
from conv_dlm.generation.parts.exits import EXIT_SCHEDULES
from conv_dlm.generation.settings import INHERITED, Part, Registry, Setting, declare, setting

DEFAULT_MAX_NEW_TOKENS = 128


@dataclass(frozen=True)
class RunSettings(Part):
    """What a run reads whatever its parts are."""

    decode_type: str = setting("conv", "which position weights meet which unmasking rule", choices=DECODE_TYPES)
    eos_fill: bool = setting(
        False, "turn all positions behind an end token into end tokens as soon as there is one",
        source="arXiv 2509.15188",
    )  # fmt: skip
    eos_threshold: float | None = setting(
        None, "cut the text off behind a position that becomes an end token with at least this probability",
        low=0, high=1, source="a training-free form of arXiv 2509.25188",
    )  # fmt: skip
    exit_schedule: str | None = setting(
        None, "take the best tokens at all masks of a row as soon as they are clear", choices=EXIT_SCHEDULES,
        source="arXiv 2512.02892, arXiv 2508.19982",
    )  # fmt: skip
    align_blocks: bool = setting(
        False, "lay the blocks of a model that sees block by block so that the response begins with one",
        source="A2D's sampler for BD3LM, arXiv 2503.09573",
    )  # fmt: skip
    lookahead: int | None = setting(
        None, "leave masks out of the forward that are more than so many positions behind the last known one", low=1
    )
    compile: bool = setting(False, "compile the model's forward, the draw and the rule, by `compile_config` if given")
    mask_token_id: int | None = setting(None, "the mask, where the model's config doesn't name it", low=0)
    shift_logits: bool | None = setting(
        None, "whether the logits at a position predict the token at its right, where the model's class doesn't say"
    )
    output_history: bool = setting(False, "return the canvas after each step, too")


declare(RunSettings.settings())

# field that names a part -> the parts there are; their settings have a meaning only with them
SELECTORS: dict[str, Registry[Any]] = {
    "decode_type": DECODE_TYPES,
    "cache_implementation": CACHE_POLICIES,
    "exit_schedule": EXIT_SCHEDULES,
}
# fields of `GenerationConfig` that denoising knows, with what they mean there; None as default: the decode type's own
INHERITED_SETTINGS: dict[str, Setting] = {
    "max_new_tokens": Setting(
        "length of the response; 0 fills the masks of the prompt only", DEFAULT_MAX_NEW_TOKENS, low=0, kind=int
    ),
    "top_k": Setting("candidates of a position, 0 for the whole vocabulary", low=0, kind=int),
    "temperature": Setting("0 draws nothing at random", low=0, high=1e6, kind=float),
    "do_sample": Setting("draw at random", kind=bool),
    "repetition_penalty": Setting(
        "above 1: tokens already there become less likely", low=0, inside=True, kind=float
    ),
    "guidance_scale": Setting("classifier-free guidance, 1 is off", kind=float),
    "cache_implementation": Setting(
        "keep keys and values between forwards, which is faster and inexact", choices=CACHE_POLICIES
    ),
}
# further ones, which are no option of the command line: their types and ranges
FURTHER_SETTINGS: dict[str, Setting] = {
    "max_length": Setting("length of prompt and response", low=0, kind=int),
    "num_return_sequences": Setting("responses to each prompt", low=1, kind=int),
    "max_time": Setting("seconds after which a run stops", low=0, kind=float),
    "top_p": Setting("draw from the best tokens that have this probability together", low=0, high=1, kind=float),
    "min_p": Setting("draw from tokens with this share of the best one's probability", low=0, high=1, kind=float),
    "typical_p": Setting("draw from the most typical tokens", low=0, high=1, kind=float),
    "top_h": Setting("draw from tokens up to this share of the entropy", low=0, high=1, kind=float),
    "epsilon_cutoff": Setting("draw from tokens above this probability", low=0, high=1, kind=float),
    "eta_cutoff": Setting("the same, less where the entropy is high", low=0, high=1, kind=float),
    "remove_invalid_values": Setting("replace NaN and infinite scores", kind=bool),
    "renormalize_logits": Setting("normalise scores after all processors", kind=bool),
    "return_dict_in_generate": Setting("return more than the ids", kind=bool),
}
# what is read only where something is drawn
FOR_DRAWS = ("top_p", "min_p", "typical_p", "top_h", "epsilon_cutoff", "eta_cutoff")
# fields of `GenerationConfig` that change nothing here, and why; Transformers' users set them by habit
WITHOUT_MEANING = {
    "prefill_chunk_size": "there is no prefill",
    "penalty_alpha": "contrastive search goes from left to right",
    "dola_layers": "logits of inner layers are not looked at",
    "prompt_lookup_num_tokens": "nothing is guessed and verified: a forward commits several tokens already",
    "token_healing": "the end of the prompt stays as it is",
    "output_scores": "scores are kept for no position; the output has `log_probs`",
    "output_logits": "logits are kept for no position; the output has `log_probs`",
    "output_attentions": "a run has many forwards; call the model on a canvas of `output_history=True`",
    "output_hidden_states": "a run has many forwards; call the model on a canvas of `output_history=True`",
}
# fields that override each other: a call that sets one of them replaces the checkpoint's values of all
EXCLUSIVE_FIELDS = (("max_length", "max_new_tokens"), ("do_sample", "temperature"))


def all_settings() -> dict[str, Setting]:
    """The settings of denoising by name, those of all registered parts among them."""
    return dict(Registry.known)


def user_settings() -> dict[str, Setting]:
    """All that a user may say of denoising: the settings, and what denoising knows of Transformers' fields."""
    first = ("decode_type", "steps", "max_new_tokens")
    said = all_settings() | INHERITED_SETTINGS
    return {name: said[name] for name in (*first, *(name for name in said if name not in first))}


def defaults() -> dict[str, Any]:
    """Name -> default of what Transformers' class does not have."""
    return {name: its.default for name, its in Registry.known.items()}


def users_of(name: str) -> dict[str, list[str]]:
    """Field that names a part -> the values of it with which the setting `name` has a meaning; empty if always."""
    if name in RunSettings.settings():
        return {}
    found = {
        selector: [key for key, part in parts.items() if name in _fields(part)] for selector, parts in SELECTORS.items()
    }
    return {selector: keys for selector, keys in found.items() if keys}


def known_fields() -> frozenset[str]:
    """All fields that a config may have: the settings, and Transformers' own."""
    return INHERITED | Registry.known.keys() | {"_commit_hash"}


LOOKS_LIKE = 0.8  # similarity, by difflib, from which on a name is a misspelt setting and not some other library's


def did_you_mean(name: str) -> str:
    """The remedy for a name that is none."""
    near = difflib.get_close_matches(name, {*user_settings(), *INHERITED}, 1)
    return f"did you mean `{near[0]}`?" if near else "drop it"


def _fields(part: DecodeType | type[Part]) -> Mapping[str, Any] | frozenset[str]:
    return part.fields if isinstance(part, DecodeType) else part.settings()


class DiffusionGenerationConfig(GenerationConfig):
    """How a masked diffusion LM denoises its canvas; saved and loaded as `generation_config.json`.

    The settings of its own are those of the parts (`conv_dlm.generation.settings`) and of the run; fields of
    `GenerationConfig` keep their meaning, with these notes:

        do_sample, temperature: what is drawn depends on the rule. Ancestral types draw both *whether* a position is
            unmasked and *which* token it gets, from weights raised to 1/temperature; confidence types draw the token
            only. Unset, ancestral types sample at temperature 1, confidence types take the most probable token.
            `do_sample=False` or `temperature=0` is the deterministic limit of each.
        top_k: candidates that a position chooses from; 0 means the whole vocabulary. Unset, the decode type's own.
        guidance_scale: classifier-free guidance, logits = u + guidance_scale * (c - u), with the prompt masked in u;
            1 is off. (LLaDA's `cfg_scale` is one less.)
        cache_implementation: what keeps keys and values between forwards, approximate for bidirectional models:
            `"prefix"` and `"dual"` for types with blocks (arXiv 2505.22618), `"window"` for all. `"block"`, for models
            whose attention is block-causal, is exact. None keeps nothing.
        max_new_tokens: length of the response; 0 unmasks only the masks inside `input_ids`. Default 128.
        max_length: length of prompt and response, where `max_new_tokens` is not given.

    Raises:
        SettingError: a value that can't be.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The settings are attributes, whichever parts there are."""

        def __setattr__(self, name: str, value: Any) -> None: ...

    def __init__(self, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in known_fields():
                raise SettingError(name, "is no setting", did_you_mean(name), kwargs[name])
        for name in Registry.known:  # before super, which validates
            setattr(self, name, kwargs.pop(name, None))
        super().__init__(**kwargs)

    @staticmethod
    def _get_default_generation_params() -> dict[str, Any]:
        # top_k and do_sample are left to the decode type
        inherited = GenerationConfig._get_default_generation_params()
        for name in ("max_length", "top_k", "do_sample", "temperature", "repetition_penalty", "use_cache"):
            inherited.pop(name, None)
        return inherited | defaults()

    @classmethod
    def from_model_config(cls, model_config: PreTrainedConfig | dict) -> "DiffusionGenerationConfig":
        """The special tokens of a model's config; nothing else in it concerns generation."""
        values = model_config if isinstance(model_config, dict) else model_config.to_dict()
        names = ("bos_token_id", "eos_token_id", "pad_token_id", "mask_token_id")
        return cls(**{name: values[name] for name in names if values.get(name) is not None})

    @classmethod
    def from_any(cls, config: GenerationConfig) -> "DiffusionGenerationConfig":
        """The same settings in this class (`config` itself if it has it); see `from_dict` for those that can't be."""
        if isinstance(config, cls):
            return config
        # a config marked as derived from the model's would lose its own fields when it is saved and loaded again
        values = {name: value for name, value in config.to_dict().items() if name != "_from_model_config"}
        converted = cls._with_foreign(cls(**cls._possible(cls._known(values))), values)
        if hasattr(config, "_original_object_hash"):  # "unchanged since loaded", so that it can always be saved back
            converted._original_object_hash = hash(converted)
        return converted

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From saved values. Those that say something else elsewhere, and can't be here, are left out with a warning:
        they never prevent loading."""
        asked = kwargs.pop("return_unused_kwargs", False)
        foreign = [name for name in kwargs if name not in known_fields() and not name.startswith("_")]
        unused = {name: kwargs.pop(name) for name in foreign} if asked else {}
        config = cls._with_foreign(super().from_dict(cls._possible(cls._known(config_dict)), **kwargs), config_dict)
        return (config, unused) if asked else config

    @staticmethod
    def _known(values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name in known_fields()}

    @staticmethod
    def _with_foreign(config: Any, values: dict[str, Any]) -> Any:
        """The config with those fields that mean nothing here, which are saved again as they were; one that looks like
        a setting's name is said."""
        for name, value in values.items():
            if name in known_fields() or hasattr(type(config), name):
                continue
            setattr(config, name, value)
            if difflib.get_close_matches(name, user_settings(), 1, LOOKS_LIKE):
                warnings.warn(f"A saved generation config: `{name}` is no setting; {did_you_mean(name)}", stacklevel=4)
        return config

    @classmethod
    def _possible(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`values` without those that can't be here; `use_cache`, which files have for writing from left to right,
        goes without a word."""
        values = {name: value for name, value in values.items() if name != "use_cache"}
        for name in ("watermarking_config", "compile_config"):  # objects, which their own classes check
            if isinstance(values.get(name), dict):
                values = {other: value for other, value in values.items() if other != name}
                warnings.warn(f"A saved generation config: `{name}` is left out.", stacklevel=3)
        while True:
            try:
                cls(**values)
            except SettingError as error:
                if error.field not in values:
                    raise
                del values[error.field]
                warnings.warn(f"A saved generation config: {error} It is left out.", stacklevel=3)
            else:
                return values

    def to_diff_dict(self) -> dict[str, Any]:
        unset = {name for name in Registry.known if getattr(self, name, None) is None}
        return {name: value for name, value in super().to_diff_dict().items() if name not in unset}

    @property
    def resolved_decode_type(self) -> DecodeType:
        """The parts that `decode_type` names. Raises SettingError for an unknown name."""
        return DECODE_TYPES.find(self.decode_type or self.default_of("decode_type"))

    @staticmethod
    def default_of(name: str) -> Any:
        """The value of a setting where nobody says another."""
        return Registry.known[name].default

    @property
    def resolved_temperature(self) -> float:
        """Temperature of the draws, 0 where nothing is drawn."""
        if self.do_sample is False:
            return 0.0
        if self.temperature is not None:
            return float(self.temperature)
        return 1.0 if self.do_sample or self.resolved_decode_type.do_sample else 0.0

    @property
    def is_random(self) -> bool:
        """Whether anything is drawn, so that another seed gives another text. Of settings in force."""
        by_rule = "remasking" in self.resolved_decode_type.fields and self.remasking == "random"
        one = self.top_k == 1 and not self.resolved_decode_type.do_sample  # a rule that draws the token only
        return bool((self.temperature > 0 and not one) or by_rule)

    def resolve(self) -> None:
        """Fill what the decode type says (`do_sample`, `temperature`, `top_k`, `repetition_penalty`)."""
        decode_type = self.resolved_decode_type
        if isinstance(self.eos_token_id, list) and not self.eos_token_id:
            self.eos_token_id = None  # no end tokens
        self.temperature = self.resolved_temperature
        self.do_sample = self.temperature > 0
        self.top_k = decode_type.top_k if self.top_k is None else self.top_k
        if self.repetition_penalty is None:
            self.repetition_penalty = decode_type.repetition_penalty

    def validate(self, strict: bool = False, user_set_attributes: set[str] | None = None) -> None:
        """Check the values, by the parts' settings in place of Transformers' own checks, which tie `top_k`, `top_p` and
        `temperature` to its meaning of `do_sample`. Raises SettingError naming the field, its value and the remedy."""
        if self.max_time == math.inf:  # Transformers' users say so for "no limit"
            self.max_time = None
        for name, its in (all_settings() | INHERITED_SETTINGS | FURTHER_SETTINGS).items():
            value = its.as_meant(getattr(self, name, None))
            if name == "decode_type":
                DECODE_TYPES.find(self.default_of(name) if value is None else value)
            elif value is not None:
                its.check(name, value)
                setattr(self, name, value)
        for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
            ids = id_list(name, getattr(self, name, None))
            if name == "pad_token_id" and ids is not None:
                if len(ids) > 1:
                    raise SettingError(name, "must be one token id", "pass the tokenizer's", self.pad_token_id)
                self.pad_token_id = ids[0] if ids else None
            elif ids is not None and not isinstance(getattr(self, name), int | list):
                setattr(self, name, ids[0] if len(ids) == 1 else ids)
        if self.do_sample and self.temperature == 0:
            raise SettingError("do_sample", "contradicts `temperature=0`", "drop one of them", True)
        if self.compile_config is not None and not isinstance(self.compile_config, CompileConfig):
            raise SettingError("compile_config", "must be a `transformers.CompileConfig`", value=self.compile_config)
        for part in self._parts():
            part.from_config(self)

    def _parts(self) -> list[type[Part]]:
        """Kinds of the parts in force; `decode_type` is known to be right."""
        parts: list[type[Part]] = [RunSettings, *self.resolved_decode_type.parts]
        if self.cache_implementation:
            parts.append(CACHE_POLICIES.find(self.cache_implementation))
        if self.exit_schedule:
            parts.append(EXIT_SCHEDULES.find(self.exit_schedule))
        return parts

    @property
    def active_settings(self) -> set[str]:
        """Names of the settings that have a meaning with the others."""
        return {name for part in self._parts() for name in part.settings()}


def _documented() -> str:
    """The settings as a docstring has them."""
    lines = []
    for name, its in all_settings().items():
        default = "*optional*" if its.default is None else f"defaults to `{its.default!r}`"
        source = f" {its.source}." if its.source else ""
        lines.append(f"        {name} (`{its.kind.__name__}`, {default}):\n            {its.help}.{source}")
    return "\n".join(lines)


assert DiffusionGenerationConfig.__doc__ is not None
DiffusionGenerationConfig.__doc__ += f"\n    Settings of its own:\n\n{_documented()}\n    "
