"""Arguments of [`MDLMTrainer`]."""

from dataclasses import dataclass, field
from typing import Any

from trl import SFTConfig

from trainers.config_checks import check_least, name_checkpointing, refuse
from trainers.handed_on import check_keys, try_what_is_handed_on
from trainers.token_free import TokenFree
from trainers.values import read_values

MASKINGS = ("random", "progressive", "window")

# Options of SFT that mean something else, or nothing, for a denoiser: name, the only value, why.
_REFUSED = (
    ("packing", False, "attention goes both ways, so packed examples would see each other"),
    ("eval_packing", None, "attention goes both ways, so packed examples would see each other"),
    ("padding_free", False, "attention goes both ways, so flattened examples would see each other"),
    ("loss_type", "nll", "the loss is the masked-diffusion bound"),
    ("use_liger_kernel", False, "Liger's fused losses are causal"),
    ("liger_kernel_config", None, "Liger's fused losses are causal"),
    ("label_smoothing_factor", 0.0, "smoothed targets would no longer bound the likelihood"),
    ("average_tokens_across_devices", True, "the loss is a mean over the global batch, however many devices share it"),
    ("include_num_input_tokens_seen", "no", "tokens are counted anyway, and logged as `num_tokens`"),
)


@dataclass
class MDLMTrainingConfig(TokenFree, SFTConfig):
    """Configuration of [`MDLMTrainer`]: TRL's `SFTConfig` and the noise of masked diffusion.

    Args:
        > Noise and loss

        min_noise (`float`, *optional*, defaults to `1e-3`):
            Lowest noise level t; the highest is 1. As in the code of arXiv 2406.07524 and 2502.09992.
        objective (`str`, *optional*, defaults to `"mdlm"`):
            `"mdlm"`: masks over the whole canvas, for models that see all of it. `"bd3lm"`: block by block, for models
            with block-causal attention, by [`BD3LMTrainer`].
        complementary_masks (`bool`, *optional*, defaults to `False`):
            See each row twice, with masks that complement each other, so that every token is learnt; `"bd3lm"` only.
        masking (`str`, *optional*, defaults to `"random"`):
            `"random"`: noise levels and masks are drawn, a new batch in every step. `"progressive"`: masks as decoding
            makes them (PUMA, arXiv 2602.10314): a batch is kept for `progressive_stages` steps, and what the model was
            surest of is shown in the next. Takes a stream of data. `"window"`: masks as blocks and Conv
            meet them: the text before a window is known, a part of the window masked, everything behind it hidden; see
            [`~trainers.masking.mask_windows`]. Evaluation has random masks in any case.
        progressive_stages (`int`, *optional*, defaults to `8`):
            Steps for which a batch is kept.
        progressive_batches (`int`, *optional*, defaults to `1`):
            Batches that take turns, `progressive_stages` at a time, so that neighbouring steps differ in rows and in
            what is masked. `save_steps` and `max_steps` have to be multiples of `progressive_stages *
            progressive_batches`, so that a run resumes exactly.
        mask_window (`int`, *optional*, defaults to `32`):
            The longest window, in tokens.
        window_share (`float`, *optional*, defaults to `0.75`):
            Share of the rows that have a window; the others have random masks.
        loss_cover (`str`, *optional*, defaults to `"response_and_eos"`):
            Which masked tokens have a loss: `"response_and_eos"`, the response and all EOS that pad it, for models
            that are used as they are; or `"response"`, the response and its first EOS, for models that go on to R2FT
            (arXiv 2509.15188). Padding EOS are masked in the input either way. The two differ only where
            `canvas_length` or `max_extra_eos` pads.
        loss_norm (`str`, *optional*, defaults to `"token"`):
            What the summed loss of a step is divided by: `"token"`, the number of covered tokens in the global batch,
            so that every token weighs the same and long responses more than short ones, as in the code of arXiv
            2509.15188; or `"sequence"`, each row's own number of covered tokens and then the number of rows, so that
            every response weighs the same, as arXiv 2502.09992 trains.
        loss_weights (`str`, *optional*, defaults to `"bound"`):
            `"bound"`: the loss bounds the negative log-likelihood, for which a row with few masks weighs each of them
            more. `"uniform"`: every masked token weighs the same, so that gradients vary less and rows with many masks
            count more; for `objective="mdlm"`. Evaluation measures the bound in any case.

        router_aux_loss_coef (`float`, *optional*, defaults to `0.0`):
            Weight of the loss that balances the experts (arXiv 2101.03961), for mixtures that have one; 0 leaves the
            router as it is.

        > Response length

        max_extra_eos (`int`, *optional*, defaults to `0`):
            A training response is followed by its EOS and by up to this many more, the number drawn for each row.
        canvas_length (`int`, *optional*):
            Response length in tokens, EOS padding included, to which `canvas_share` of the training rows are padded:
            the `max_new_tokens` that the model shall generate with. Longer responses stay as they are.
        canvas_share (`float`, *optional*, defaults to `1.0`):
            Share of training rows that is padded to `canvas_length`.
        canvas_shortest (`int`, *optional*):
            Pad to `canvas_length`, half of it, a quarter, and so on down to this, one of them drawn; to
            `canvas_length` alone when unset.
        canvas_rows (`int`, *optional*, defaults to `1`):
            So many rows in a row are padded to the same length, or not at all. With the batch size, and without
            shuffling, no batch is padded for the sake of one row.

        > Samples

        eval_samples (`int`, *optional*, defaults to `0`):
            After each evaluation, decode the first so many prompts of the evaluation set, the same way each time; to
            `samples.jsonl` in `output_dir`, to the screen, and to TensorBoard, W&B and Trackio as `report_to` says.
        eval_sample_kwargs (`dict`, *optional*):
            Keywords of `generate` for these, added to `decode_type="conv"` and `max_new_tokens=canvas_length`.

        > Parameters of SFTConfig with other defaults

        logging_nan_inf_filter (`bool`, *optional*, defaults to `False`):
            A loss that is not finite ends the run instead of being averaged away.

    Raises:
        `ValueError`: an option of SFT that does not apply to denoisers, or a value out of range.
    """

    _VALID_DICT_FIELDS = [*SFTConfig._VALID_DICT_FIELDS, "eval_sample_kwargs"]

    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Kept off: a loss that is not finite ends the run."}
    )
    min_noise: float = field(default=1e-3, metadata={"help": "Lowest noise level t; the highest is 1."})
    objective: str = field(
        default="mdlm",
        metadata={"help": "Masks over the whole canvas, or block by block.", "choices": ["mdlm", "bd3lm"]},
    )
    complementary_masks: bool = field(
        default=False, metadata={"help": "See each row twice, with masks that complement each other."}
    )
    masking: str = field(
        default="random",
        metadata={"help": "Masks that are drawn, or made as by decoding.", "choices": [*MASKINGS]},
    )
    progressive_stages: int = field(default=8, metadata={"help": "Steps for which progressive masking keeps a batch."})
    progressive_batches: int = field(default=1, metadata={"help": "Batches that take turns with progressive masking."})
    mask_window: int = field(default=32, metadata={"help": "The longest window of windowed masking, in tokens."})
    window_share: float = field(default=0.75, metadata={"help": "Share of the rows that have a window."})
    loss_cover: str = field(
        default="response_and_eos",
        metadata={
            "help": "Tokens with a loss: the response with its first EOS, or also the EOS that pad it.",
            "choices": ["response_and_eos", "response"],
        },
    )
    loss_norm: str = field(
        default="token",
        metadata={"help": "Every token weighs the same, or every response.", "choices": ["token", "sequence"]},
    )
    loss_weights: str = field(
        default="bound",
        metadata={"help": "Masks weigh as in the bound, or all the same.", "choices": ["bound", "uniform"]},
    )
    router_aux_loss_coef: float = field(
        default=0.0, metadata={"help": "Weight of the loss that balances the experts; 0 leaves it out."}
    )
    max_extra_eos: int = field(
        default=0, metadata={"help": "Training responses end in their EOS and up to this many more."}
    )
    canvas_length: int | None = field(
        default=None, metadata={"help": "Response length to which `canvas_share` of the rows are padded with EOS."}
    )
    canvas_share: float = field(
        default=1.0, metadata={"help": "Share of training rows that is padded to `canvas_length`."}
    )
    canvas_shortest: int | None = field(
        default=None, metadata={"help": "Pad to `canvas_length`, half of it, ... down to this, one of them drawn."}
    )
    canvas_rows: int = field(default=1, metadata={"help": "So many rows in a row are padded alike."})
    eval_samples: int = field(default=0, metadata={"help": "Prompts that are decoded after each evaluation."})
    eval_sample_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keywords of `generate` for `eval_samples`, as JSON."}
    )

    def __post_init__(self) -> None:
        read_values(self)
        check_keys(self)
        name_checkpointing(self)
        super().__post_init__()
        refuse(self, _REFUSED)
        try_what_is_handed_on(self)
        if self.objective == "bd3lm" and self.masking != "random":
            raise ValueError(f"`masking={self.masking!r}` has no use with `objective='bd3lm'`. Leave it out.")
        if self.complementary_masks and self.objective != "bd3lm":
            raise ValueError("`complementary_masks` has no use without `objective='bd3lm'`. Leave it out.")
        for name in ("window_share", "canvas_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}={getattr(self, name)}` must be a share, from 0 to 1.")
        check_least(self, progressive_stages=1, progressive_batches=1, mask_window=1, canvas_rows=1)
        if self.masking == "progressive":
            period = self.progressive_stages * self.progressive_batches
            for name in ("max_steps", "save_steps"):
                if (steps := getattr(self, name)) % period and self.save_strategy != "no":
                    raise ValueError(
                        f"`{name}={steps:g}` must be a multiple of {period}, `progressive_stages * "
                        "progressive_batches`: a checkpoint is whole only where no batch is under way."
                    )
            self.ignore_data_skip = True  # a resumed trainer skips by itself: fewer batches than steps
        if self.objective == "bd3lm" and self.loss_weights != "bound":
            raise ValueError(f"`loss_weights={self.loss_weights!r}` has no use with `objective='bd3lm'`. Leave it out.")
        if not 0 < self.min_noise < 1:
            raise ValueError(f"`min_noise={self.min_noise}` must lie between 0 and 1, both excluded.")
        if not 0 <= self.router_aux_loss_coef < float("inf"):
            raise ValueError(f"`router_aux_loss_coef={self.router_aux_loss_coef}` must be 0 or more, and finite.")
        check_least(self, max_extra_eos=0, eval_samples=0)
        if self.canvas_length is not None and self.canvas_length < 1:
            raise ValueError(f"`canvas_length={self.canvas_length}` must be 1 or more; leave it unset for no padding.")
        if self.canvas_shortest is not None and not 1 <= self.canvas_shortest <= (self.canvas_length or 0):
            raise ValueError(
                f"`canvas_shortest={self.canvas_shortest}` must lie between 1 and `canvas_length={self.canvas_length}`."
            )
        if self.eval_sample_kwargs and not self.eval_samples:
            raise ValueError("`eval_sample_kwargs` has no effect without `eval_samples`; set that, or drop it.")

    @property
    def canvases(self) -> list[int]:
        """The lengths to which rows are padded, the longest first."""
        lengths = [self.canvas_length] if self.canvas_length else []
        while lengths and self.canvas_shortest and lengths[-1] // 2 >= self.canvas_shortest:
            lengths.append(lengths[-1] // 2)
        return lengths
