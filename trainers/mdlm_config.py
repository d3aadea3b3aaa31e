"""Arguments of [`MDLMTrainer`]."""

from dataclasses import dataclass, field

from trl import SFTConfig

# Options of SFT that mean something else, or nothing, for a denoiser: name, the only value, why.
_REFUSED = (
    ("packing", False, "attention goes both ways, so packed examples would see each other"),
    ("eval_packing", None, "attention goes both ways, so packed examples would see each other"),
    ("padding_free", False, "attention goes both ways, so flattened examples would see each other"),
    ("loss_type", "nll", "the loss is the masked-diffusion bound"),
    ("use_liger_kernel", False, "Liger's fused losses are causal"),
    ("label_smoothing_factor", 0.0, "smoothed targets would no longer bound the likelihood"),
)


@dataclass
class MDLMConfig(SFTConfig):
    """Configuration of [`MDLMTrainer`]: TRL's `SFTConfig` and the noise of masked diffusion.

    Args:
        > Noise

        min_noise (`float`, *optional*, defaults to `1e-3`):
            Lowest noise level t; the highest is 1. As in the code of arXiv 2406.07524 and 2502.09992.

        > Response length

        max_extra_eos (`int`, *optional*, defaults to `0`):
            A training response is followed by its EOS and by up to this many more, the number drawn for each row.
        canvas_length (`int`, *optional*):
            Response length in tokens, EOS padding included, to which `canvas_share` of the training rows are padded:
            the `max_new_tokens` that the model shall generate with. Longer responses stay as they are.
        canvas_share (`float`, *optional*, defaults to `1.0`):
            Share of training rows that is padded to `canvas_length`.

        > Parameters of SFTConfig with other defaults

        logging_nan_inf_filter (`bool`, *optional*, defaults to `False`):
            A loss that is not finite ends the run instead of being averaged away.

    Raises:
        `ValueError`: an option of SFT that does not apply to denoisers, or a value out of range.
    """

    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Kept off: a loss that is not finite ends the run."}
    )
    min_noise: float = field(default=1e-3, metadata={"help": "Lowest noise level t; the highest is 1."})
    max_extra_eos: int = field(
        default=0, metadata={"help": "Training responses end in their EOS and up to this many more."}
    )
    canvas_length: int | None = field(
        default=None, metadata={"help": "Response length to which `canvas_share` of the rows are padded with EOS."}
    )
    canvas_share: float = field(
        default=1.0, metadata={"help": "Share of training rows that is padded to `canvas_length`."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, only, reason in _REFUSED:
            value = getattr(self, name)
            if value != only and value:
                raise ValueError(f"`{name}={value!r}` does not apply to masked diffusion: {reason}. Leave it out.")
        if not 0 < self.min_noise < 1:
            raise ValueError(f"`min_noise={self.min_noise}` must lie between 0 and 1, both excluded.")
        if self.max_extra_eos < 0:
            raise ValueError(f"`max_extra_eos={self.max_extra_eos}` must be 0 or more.")
        if not 0 <= self.canvas_share <= 1:
            raise ValueError(f"`canvas_share={self.canvas_share}` must be a share, from 0 to 1.")
        if self.canvas_length is not None and self.canvas_length < 1:
            raise ValueError(f"`canvas_length={self.canvas_length}` must be 1 or more; leave it unset for no padding.")
