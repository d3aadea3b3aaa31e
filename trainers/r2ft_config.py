"""Arguments of [`R2FTTrainer`]."""

import math
from dataclasses import dataclass, field

from trainers.corruption import CORRUPTIONS, MIN_SPAN
from trainers.mdlm_config import MDLMTrainingConfig, check_choice


@dataclass
class R2FTConfig(MDLMTrainingConfig):
    """Configuration of [`R2FTTrainer`]: rejecting rule-based fine-tuning, arXiv 2509.15188.

    Args:
        > Objective

        beta_w, beta_l (`float`, *optional*, default to `1.0`):
            Weights of the chosen (clean) and the rejected (repetitive) text's log-probability a token.
        beta_a (`float`, *optional*, defaults to `0.1`):
            Weight of the anchor, the negative log-probability of the chosen text. As in the released scripts; the
            released YAML file has 1.
        gamma (`float`, *optional*, defaults to `0.0`):
            Margin by which the chosen text shall lead.

        > Corruption

        corruption (`str`, *optional*, defaults to `"repeat"`):
            Rule that makes the rejected text. For prompts and responses: `"repeat"`, algorithm 1, or `"naive"`. For
            plain text: `"in_mask_repeat"`, `"out_mask_repeat"`, `"in_or_out_mask_repeat"`. Or a rule of your own, see
            [`register_corruption`].
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

        > Parameters of MDLMTrainingConfig with other defaults

        loss_cover (`str`, *optional*, defaults to `"response"`):
            Tokens that `log p` of the chosen text counts. With the rules for prompts and responses, `canvas_length`
            has to be set: repetitions run over the response's end into the EOS that fill the canvas.

    Raises:
        `ValueError`: an unknown rule or a value out of range.
    """

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
    gamma: float = field(default=0.0, metadata={"help": "Margin by which the chosen text shall lead."})
    corruption: str = field(default="repeat", metadata={"help": "Rule that makes the rejected text."})
    eos_p: float = field(default=1.0, metadata={"help": "Probability that a repetition holds an EOS."})
    max_z: int = field(default=50, metadata={"help": f"Repetitions are {MIN_SPAN} to max_z - 1 tokens long."})
    max_phrase_length: int = field(default=14, metadata={"help": "Longest repeated phrase, in tokens."})
    repeat_longer_than_x0: bool = field(
        default=True, metadata={"help": "Let repetitions that end before the response run on to its end."}
    )
    denominator: str = field(
        default="mask_len",
        metadata={"help": "What log-probabilities of plain text are divided by.", "choices": ["mask_len", "seq_len"]},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("corruption", self.corruption, CORRUPTIONS)
        check_choice("denominator", self.denominator, ("mask_len", "seq_len"))
        for name in ("beta_w", "beta_l", "beta_a"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}={getattr(self, name)}` must be a number of 0 or more.")
        if not math.isfinite(self.gamma):
            raise ValueError(f"`gamma={self.gamma}` must be a finite number.")
        if not 0 <= self.eos_p <= 1:
            raise ValueError(f"`eos_p={self.eos_p}` must be a probability, from 0 to 1.")
        if self.max_z <= MIN_SPAN:
            raise ValueError(f"`max_z={self.max_z}` must be more than {MIN_SPAN}, the shortest repetition.")
        if self.max_phrase_length < 1:
            raise ValueError(f"`max_phrase_length={self.max_phrase_length}` must be 1 or more.")
        if self.loss_norm != "token":
            raise ValueError(
                f"`loss_norm={self.loss_norm!r}` does not apply to R2FT, whose log-probabilities are means over tokens "
                "and whose loss is the mean over rows. Leave it out."
            )
        if CORRUPTIONS[self.corruption].fills_canvas and self.canvas_length is None:
            raise ValueError(
                f"`canvas_length` is not set, and the repetitions of `corruption={self.corruption!r}` run into the EOS "
                "that fill the canvas. Set it to the `max_new_tokens` that you generate with."
            )
