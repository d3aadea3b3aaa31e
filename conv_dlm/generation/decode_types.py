"""The decode types: one choice of position weights, one unmasking rule, and the defaults that go with them.

A new type is one line here (or `register_decode_type`), made of parts that other types use too.
"""

import difflib
from dataclasses import dataclass

from conv_dlm.generation.position_weights import POSITION_WEIGHTS
from conv_dlm.generation.unmasking_rules import UNMASKING_RULES


@dataclass(frozen=True)
class DecodeType:
    """A preset of the parts of a decoder.

    weights (`str`): a key of `POSITION_WEIGHTS`: where the step may decide.
    rule (`str`): a key of `UNMASKING_RULES`: what it decides, and what it masks again.
    summary (`str`): one line for help texts.
    top_k (`int`): candidates of a position where the user doesn't say; 0 = the whole vocabulary.
    do_sample (`bool`): whether it draws at random where the user doesn't say.
    repetition_penalty (`float`): likewise; 1 = none.
    """

    weights: str
    rule: str
    summary: str
    top_k: int = 0
    do_sample: bool = True
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        for part, table in ((self.weights, POSITION_WEIGHTS), (self.rule, UNMASKING_RULES)):
            if part not in table:
                raise ValueError(f"{part!r} is not a part of a decode type; choose one of {sorted(table)}.")
        if self.weights == "slide" and not UNMASKING_RULES[self.rule].paced:
            raise ValueError(f"'slide' moves by the steps of a schedule, and the rule {self.rule!r} has none.")

    @property
    def fields(self) -> frozenset[str]:
        """Names of the generation config's fields that this type reads beyond those that all types read."""
        return frozenset(POSITION_WEIGHTS[self.weights].fields) | frozenset(UNMASKING_RULES[self.rule].fields)


# "Conv" is arXiv 2509.15188, LLaDA arXiv 2502.09992, MDLM's ancestral sampler arXiv 2406.07524, ReMDM arXiv 2503.00307,
# threshold and factor Fast-dLLM arXiv 2505.22618, entropy EB-sampler arXiv 2505.24857.
DECODE_TYPES: dict[str, DecodeType] = {
    "categorical": DecodeType("uniform", "ancestral", "MDLM's ancestral sampler, whole vocabulary"),
    "topk": DecodeType("uniform", "ancestral", "ancestral, k best tokens, globally normalised", top_k=1),
    "topk_penalty": DecodeType(
        "uniform", "ancestral", "topk with a repetition penalty", top_k=1, repetition_penalty=1.2
    ),
    "conv": DecodeType("convolution", "ancestral", "Convolutional decoding: near known text first", top_k=1),
    "semi_ar": DecodeType("block", "ancestral", "block by block, time restarted in each", top_k=1),
    "llada": DecodeType("block", "confidence", "LLaDA: most confident first, in blocks", do_sample=False),
    "llada_conv": DecodeType("convolution", "confidence", "most confident first, near known text", do_sample=False),
    "slide": DecodeType("slide", "slide", "a sliding window whose front is always decided", top_k=1),
    "remdm": DecodeType("uniform", "remasking", "ReMDM: some tokens are masked again", top_k=1),
    "remdm_conv": DecodeType("convolution", "remasking", "ReMDM near known text", top_k=1),
    "threshold": DecodeType("block", "threshold", "all that are confident enough, in blocks", do_sample=False),
    "factor": DecodeType("block", "factor", "the more at once the more confident, in blocks", do_sample=False),
    "entropy": DecodeType("block", "entropy", "as many as have a bounded entropy, in blocks", do_sample=False),
    "conv_threshold": DecodeType("convolution", "threshold", "threshold near known text", do_sample=False),
    "conv_factor": DecodeType("convolution", "factor", "factor near known text", do_sample=False),
    "conv_entropy": DecodeType("convolution", "entropy", "entropy near known text", do_sample=False),
}


def register_decode_type(name: str, decode_type: DecodeType) -> None:
    """Make `generate(decode_type=name)` work. Raises ValueError if the name is taken."""
    if name in DECODE_TYPES:
        raise ValueError(f"decode type {name!r} exists already; choose another name.")
    DECODE_TYPES[name] = decode_type


def get_decode_type(name: str) -> DecodeType:
    """The parts behind `name`. Raises ValueError with the nearest known name."""
    if name in DECODE_TYPES:
        return DECODE_TYPES[name]
    near = difflib.get_close_matches(str(name), DECODE_TYPES, n=1, cutoff=0)[0]
    raise ValueError(f"`decode_type`={name!r} does not exist; did you mean {near!r}? Known: {', '.join(DECODE_TYPES)}.")
