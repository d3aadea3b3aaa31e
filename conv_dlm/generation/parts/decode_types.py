"""The decode types: one choice of position weights, one unmasking rule, and the defaults that go with them.

A new type is one registration, made of parts that other types use too.
"""

import difflib
from dataclasses import dataclass

from conv_dlm.generation.candidates import MEASURES
from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.parts.ancestral import AncestralRule  # noqa: F401 - the rules register themselves
from conv_dlm.generation.parts.assisted import GuidedRule  # noqa: F401
from conv_dlm.generation.parts.confidence import ConfidenceRule  # noqa: F401
from conv_dlm.generation.parts.consistency import CcdRule  # noqa: F401
from conv_dlm.generation.parts.cycles import SlowFastRule  # noqa: F401
from conv_dlm.generation.parts.editing import EditingRule  # noqa: F401
from conv_dlm.generation.parts.frequency import PositionFrequencyRule  # noqa: F401
from conv_dlm.generation.parts.insertion import IndelRule  # noqa: F401
from conv_dlm.generation.parts.learned import LearnedFilterRule  # noqa: F401
from conv_dlm.generation.parts.length import DaedalRule  # noqa: F401
from conv_dlm.generation.parts.lookahead import LopaRule  # noqa: F401
from conv_dlm.generation.parts.lossless import LosslessRule  # noqa: F401
from conv_dlm.generation.parts.memory import KlassRule  # noqa: F401
from conv_dlm.generation.parts.neighbours import LocalLeapRule  # noqa: F401
from conv_dlm.generation.parts.position_weights import POSITION_WEIGHTS
from conv_dlm.generation.parts.revision import WinoRule  # noqa: F401
from conv_dlm.generation.parts.rules import UNMASKING_RULES, FixedStepsRule
from conv_dlm.generation.parts.several_blocks import MultiblockRule  # noqa: F401
from conv_dlm.generation.parts.statistics import STATISTICS
from conv_dlm.generation.settings import Part, Registry


@dataclass(frozen=True)
class DecodeType:
    """A preset of the parts of a decoder.

    weights (`str`): a key of `POSITION_WEIGHTS`: where the step may unmask.
    rule (`str`): a key of `UNMASKING_RULES`: what it unmasks, and what it masks again.
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
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 0:
            raise ValueError(f"`top_k={self.top_k!r}` of a decode type must be a whole number of at least 0.")
        POSITION_WEIGHTS.find(self.weights)
        rule = UNMASKING_RULES.find(self.rule)
        if self.weights == "slide" and not issubclass(rule, FixedStepsRule):
            raise ValueError(f"'slide' moves by the steps of a schedule, and the rule {self.rule!r} has none.")

    @property
    def parts(self) -> list[type[Part]]:
        """Position weights, rule, and the statistics that the rule asks for."""
        rule = UNMASKING_RULES[self.rule]
        asked = [STATISTICS.find(name) for name in rule.statistics if name not in MEASURES]
        return [POSITION_WEIGHTS[self.weights], rule, *asked]

    @property
    def fields(self) -> frozenset[str]:
        """Names of the generation config's fields that this type reads beyond those that all types read."""
        return frozenset(name for part in self.parts for name in part.settings())


class DecodeTypes(Registry[DecodeType]):
    """The decode types by name."""

    def __setitem__(self, name: str, part: DecodeType) -> None:
        if not isinstance(part, DecodeType):
            raise ValueError(f"{name!r} is a {type(part).__name__}; make a `conv_dlm.DecodeType` of it.")
        super().__setitem__(name, part)

    def find(self, name: str) -> DecodeType:
        """The parts behind `name`. Raises SettingError with the nearest known name."""
        if isinstance(name, str) and name in self:
            return self[name]
        near = difflib.get_close_matches(str(name), self, n=1, cutoff=0)[0]
        raise SettingError("decode_type", "does not exist", f"did you mean {near!r}? Known: {', '.join(self)}", name)


# "Conv" is arXiv 2509.15188, LLaDA arXiv 2502.09992, MDLM's ancestral sampler arXiv 2406.07524, ReMDM arXiv 2503.00307,
# threshold and factor Fast-dLLM arXiv 2505.22618, entropy EB-sampler arXiv 2505.24857,
# klass arXiv 2511.05664, localleap arXiv 2510.07081, credit arXiv 2510.06133, hierarchical dInfer arXiv 2510.08666,
# freedave arXiv 2510.00294, wino arXiv 2507.18578, rcr arXiv 2508.13148, saber arXiv 2510.18165, multiblock arXiv
# 2601.07568, d2f arXiv 2508.09192, lopa
# zhijie-group/LoPA, pc_sampler arXiv 2508.13021, ccd arXiv 2512.02044, slowfast arXiv 2506.10848,
# daedal arXiv 2508.00819, editing LLaDA2.1 arXiv 2602.08676, learned_filter Learn2PD arXiv 2509.25188, learned_policy
# arXiv 2512.09106, guided arXiv 2505.21467, speculative arXiv 2510.02358.
DECODE_TYPES = DecodeTypes("decode type")
for _name, _type in {
    "categorical": DecodeType("uniform", "ancestral", "MDLM's ancestral sampler, whole vocabulary"),
    "topk": DecodeType("uniform", "ancestral", "ancestral, k best tokens, globally normalised", top_k=1),
    "topk_penalty": DecodeType(
        "uniform", "ancestral", "topk with a repetition penalty", top_k=1, repetition_penalty=1.2
    ),
    "conv": DecodeType("convolution", "ancestral", "Convolutional decoding: near known text first", top_k=1),
    "semi_ar": DecodeType("block", "ancestral", "block by block, time restarted in each", top_k=1),
    "llada": DecodeType("block", "confidence", "LLaDA: most confident first, in blocks", do_sample=False),
    "llada_conv": DecodeType("convolution", "confidence", "most confident first, near known text", do_sample=False),
    "slide": DecodeType("slide", "slide", "a sliding window whose front is always unmasked", top_k=1),
    "remdm": DecodeType("uniform", "remasking", "ReMDM: some tokens are masked again", top_k=1),
    "remdm_conv": DecodeType("convolution", "remasking", "ReMDM near known text", top_k=1),
    "threshold": DecodeType("block", "threshold", "all that are confident enough, in blocks", do_sample=False),
    "factor": DecodeType("block", "factor", "the more at once the more confident, in blocks", do_sample=False),
    "entropy": DecodeType("block", "entropy", "as many as have a bounded entropy, in blocks", do_sample=False),
    "conv_threshold": DecodeType("convolution", "threshold", "threshold near known text", do_sample=False),
    "conv_factor": DecodeType("convolution", "factor", "factor near known text", do_sample=False),
    "conv_entropy": DecodeType("convolution", "entropy", "entropy near known text", do_sample=False),
    "klass": DecodeType("block", "klass", "all that are confident and steady, in blocks", do_sample=False),
    "localleap": DecodeType("block", "localleap", "the confident and their neighbours, in blocks", do_sample=False),
    "credit": DecodeType("block", "credit", "threshold on the evidence of all steps, in blocks", do_sample=False),
    "hierarchical": DecodeType("block", "hierarchical", "divide every run of masks, in blocks", do_sample=False),
    "hierarchical_remask": DecodeType(
        "block", "hierarchical_remask", "hierarchical, and takes back what has become doubtful", do_sample=False
    ),
    "conv_klass": DecodeType("convolution", "klass", "klass near known text", do_sample=False),
    "conv_localleap": DecodeType("convolution", "localleap", "localleap near known text", do_sample=False),
    "conv_credit": DecodeType("convolution", "credit", "credit near known text", do_sample=False),
    "conv_hierarchical": DecodeType("convolution", "hierarchical", "hierarchical near known text", do_sample=False),
    "freedave": DecodeType("block", "freedave", "lossless: one token a step, in fewer forwards", do_sample=False),
    "freedave_threshold": DecodeType("block", "freedave_threshold", "lossless: as threshold", do_sample=False),
    "freedave_entropy": DecodeType("block", "freedave_entropy", "lossless: as entropy", do_sample=False),
    "freedave_localleap": DecodeType("block", "freedave_localleap", "lossless: as localleap", do_sample=False),
    "conv_freedave": DecodeType("convolution", "freedave_threshold", "lossless: as conv_threshold", do_sample=False),
    "wino": DecodeType("block", "wino", "many at once, verified and taken back, in blocks", do_sample=False),
    "rcr": DecodeType("block", "rcr", "everything at once, the least confident again, in blocks", do_sample=False),
    "saber": DecodeType("uniform", "saber", "adaptive, takes back what has become less sure", do_sample=False),
    "multiblock": DecodeType("uniform", "multiblock", "what is certain, in several blocks at once", do_sample=False),
    "d2f": DecodeType("uniform", "d2f", "what is confident, in several blocks at once", do_sample=False),
    "lopa": DecodeType("uniform", "lopa", "d2f, with several next tokens tried at once", do_sample=False),
    "pc_sampler": DecodeType("block", "pc_sampler", "early positions, rare tokens first, in blocks", do_sample=False),
    "ccd": DecodeType("uniform", "ccd", "at once what was said twice, else a share", do_sample=False),
    "slowfast": DecodeType("block", "slowfast", "explore a block, then unmask up to where it is sure", do_sample=False),
    "daedal": DecodeType("block", "daedal", "threshold, and finds the length of the text by itself", do_sample=False),
    "conv_daedal": DecodeType("convolution", "daedal", "daedal near known text", do_sample=False),
    "editing": DecodeType("block", "editing", "threshold, and rewrites tokens it is surer of now", do_sample=False),
    "editing_indel": DecodeType("block", "editing_indel", "editing that inserts and deletes too", do_sample=False),
    "learned_filter": DecodeType("block", "learned_filter", "what a filter calls final, in blocks", do_sample=False),
    "learned_policy": DecodeType("block", "learned_policy", "what a learned policy draws, in blocks", do_sample=False),
    "guided": DecodeType("uniform", "guided", "as much as a causal assistant passes", do_sample=False),
    "speculative": DecodeType("uniform", "speculative", "lossless: the text of a causal assistant", do_sample=False),
}.items():
    DECODE_TYPES.register(_name, _type)
