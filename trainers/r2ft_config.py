"""Arguments of [`R2FTTrainer`]."""

import math
from dataclasses import dataclass, field
from typing import Any

from trainers.config_checks import Refused, check_choice, of_part, refuse
from trainers.corruption import CORRUPTIONS, SETTINGS, CorruptionRule
from trainers.mdlm_config import MDLMTrainingConfig

_REFUSED: tuple[Refused, ...] = (
    ("loss_norm", "token", "its log-probabilities are means over tokens, and its loss is the mean over rows"),
    ("loss_weights", "bound", "it has no bound"),
    ("masking", "random", "its corruption says what is masked"),
    ("objective", "mdlm", "it compares whole canvases"),
)


def _of_rules(name: str) -> Any:
    return of_part(SETTINGS[name])


@dataclass
class R2FTConfig(MDLMTrainingConfig):
    """Configuration of [`R2FTTrainer`]: rejecting rule-based fine-tuning, arXiv 2509.15188.

    Args:
        > Objective

        beta_w, beta_l (`float`, *optional*, default to `1.0`):
            Weights of the log-probabilities per token of the chosen (clean) and the rejected (repetitive) text.
        beta_a (`float`, *optional*, defaults to `0.1`):
            Weight of the anchor, the negative log-probability of the chosen text. As in the released scripts; the
            released YAML file has 1.
        gamma (`float`, *optional*, defaults to `0.0`):
            Margin by which the chosen text has to lead.

        > Corruption

        corruption (`str`, *optional*, defaults to `"repeat"`):
            Rule that makes the rejected text. For prompts and responses: `"repeat"`, algorithm 1, or `"naive"`. For
            plain text: `"in_mask_repeat"`, `"out_mask_repeat"`, `"in_or_out_mask_repeat"`. Or a rule of your own, see
            [`CorruptionRule`].
        eos_p (`float`, *optional*, defaults to `1.0`):
            Probability that the repetition holds an EOS, at a random place. `"repeat"` only.
        max_z (`int`, *optional*, defaults to `50`):
            Repetitions are 30 to `max_z - 1` tokens long. `"repeat"` only.
        max_phrase_length (`int`, *optional*, defaults to `14`):
            Repeated phrases are 1 to this many tokens long.
        repeat_longer_than_x0 (`bool`, *optional*, defaults to `True`):
            Let a repetition that ends before the response run on to its end. `"repeat"` only.
        denominator (`str`, *optional*, defaults to `"mask_len"`):
            What the log-probabilities of the rules for plain text are divided by: `"mask_len"`, the number of masks,
            or `"seq_len"`, the length of the text.
        corruption_kwargs (`dict`, *optional*):
            Settings of a rule of your own that have no field here.

        > Parameters of MDLMTrainingConfig with other defaults

        loss_cover (`str`, *optional*, defaults to `"response"`):
            Tokens that `log p` of the chosen text counts. With the rules for prompts and responses, `canvas_length`
            has to be set: repetitions run over the response's end into the EOS that fill the canvas.

    Raises:
        `ValueError`: an unknown rule or a value out of range.
    """

    _VALID_DICT_FIELDS = [*MDLMTrainingConfig._VALID_DICT_FIELDS, "corruption_kwargs"]

    loss_cover: str = field(
        default="response",
        metadata={
            "help": "Tokens of the chosen text: the response with its first EOS, or also the EOS that pad it.",
            "choices": ["response_and_eos", "response"],
        },
    )
    beta_w: float = field(default=1.0, metadata={"help": "Weight of the chosen text's log-probability."})
    beta_l: float = field(default=1.0, metadata={"help": "Weight of the rejected text's log-probability."})
    beta_a: float = field(default=0.1, metadata={"help": "Weight of the anchor on the chosen text."})
    gamma: float = field(default=0.0, metadata={"help": "Margin by which the chosen text has to lead."})
    corruption: str = field(default="repeat", metadata={"help": "Rule that makes the rejected text."})
    eos_p: float = _of_rules("eos_p")
    max_z: int = _of_rules("max_z")
    max_phrase_length: int = _of_rules("max_phrase_length")
    repeat_longer_than_x0: bool = _of_rules("repeat_longer_than_x0")
    denominator: str = _of_rules("denominator")
    corruption_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Further settings of a corruption rule of one's own, as JSON."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("corruption", self.corruption, CORRUPTIONS)
        for name in ("beta_w", "beta_l", "beta_a"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}={getattr(self, name)}` must be a number of 0 or more.")
        if not math.isfinite(self.gamma):
            raise ValueError(f"`gamma={self.gamma}` must be a finite number.")
        for name, its in SETTINGS.items():
            its.check(name, getattr(self, name, None))
        self.corruption_rule()
        refuse(self, _REFUSED, "R2FT")
        if CORRUPTIONS[self.corruption].fills_canvas and self.canvas_length is None:
            raise ValueError(
                f"`canvas_length` is not set, and the repetitions of `corruption={self.corruption!r}` run into the EOS "
                "that fill the canvas. Set it to the `max_new_tokens` that you generate with."
            )

    def corruption_rule(self) -> CorruptionRule:
        """The rule that `corruption` names, with its settings. Raises ValueError for one that can't be."""
        rule, further = CORRUPTIONS[self.corruption], self.corruption_kwargs or {}
        assert not isinstance(further, str)  # TrainingArguments reads JSON
        for name in further:
            if name not in rule.settings():
                raise ValueError(
                    f"`corruption_kwargs` has {name!r}, and `corruption={self.corruption!r}` has the settings "
                    f"{sorted(rule.settings())}."
                )
        said = {name: getattr(self, name) for name in rule.settings() if hasattr(self, name)}
        return rule(**(said | further))
