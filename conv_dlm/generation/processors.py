"""Logits processors on a canvas: those of the generation config, and which of Transformers' have a meaning there.

A processor is called with one row for each position: ids [N, L] (the canvas, masks included) and scores [N, V]. Those
of Transformers that read the ids as "what came before" would be wrong without a sound, so they are refused.
"""

import inspect
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList
from transformers.generation import logits_process as hf

from conv_dlm.generation.arguments import check_callables, check_ids, id_list
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.configuration import DiffusionGenerationConfig
from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.parts.statistics import Places

ORDER = "needs the tokens before a position, which denoising unmasks in any order"
DROP_IT = "leave it out"
WAY_OUT = "drop it; `suppress_tokens`, `repetition_penalty` and `bad_words_ids` of one token each work"
# field of `GenerationConfig` -> whether a value asks for a processor that only makes sense from left to right
LEFT_TO_RIGHT: dict[str, tuple[Any, ...]] = {
    "no_repeat_ngram_size": (None, 0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1.0),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "begin_suppress_tokens": (None,),
    "exponential_decay_length_penalty": (None,),
    "watermarking_config": (None,),
}
# the same as objects -> the field behind them
LEFT_TO_RIGHT_CLASSES: dict[type, str] = {
    hf.NoRepeatNGramLogitsProcessor: "no_repeat_ngram_size",
    hf.EncoderNoRepeatNGramLogitsProcessor: "encoder_no_repeat_ngram_size",
    hf.EncoderRepetitionPenaltyLogitsProcessor: "encoder_repetition_penalty",
    hf.PrefixConstrainedLogitsProcessor: "prefix_allowed_tokens_fn",
    hf.MinLengthLogitsProcessor: "min_length",
    hf.MinNewTokensLengthLogitsProcessor: "min_new_tokens",
    hf.ForcedBOSTokenLogitsProcessor: "forced_bos_token_id",
    hf.ForcedEOSTokenLogitsProcessor: "forced_eos_token_id",
    hf.SuppressTokensAtBeginLogitsProcessor: "begin_suppress_tokens",
    hf.ExponentialDecayLengthPenalty: "exponential_decay_length_penalty",
    hf.WatermarkLogitsProcessor: "watermarking_config",
    hf.SynthIDTextWatermarkLogitsProcessor: "watermarking_config",
    hf.UnbatchedClassifierFreeGuidanceLogitsProcessor: "guidance_scale",
}
PLACES = ("rows", "positions", "step")  # what a processor may ask for by naming it


def build_processors(
    config: DiffusionGenerationConfig,
    own: Sequence[Any],
    eos_token_ids: Tensor | None,
    device: torch.device,
    vocabulary: int | None = None,
) -> LogitsProcessorList:
    """The processors that the fields of `config` ask for, and the caller's `own` ones.

    Raises:
        SettingError: one of them only makes sense from left to right.
    """
    for name, nothing in LEFT_TO_RIGHT.items():
        value = getattr(config, name, None)
        if value not in nothing:
            raise SettingError(name, ORDER, WAY_OUT, value)
    asked = LogitsProcessorList()
    if config.repetition_penalty not in (None, 1.0):
        asked.append(hf.RepetitionPenaltyLogitsProcessor(float(config.repetition_penalty)))
    if config.sequence_bias is not None:
        asked.append(_made("sequence_bias", config, hf.SequenceBiasLogitsProcessor))
        check_ids("sequence_bias", (i for ids in asked[-1].sequence_bias for i in ids), vocabulary, DROP_IT)
    if config.bad_words_ids:
        asked.append(_made("bad_words_ids", config, hf.NoBadWordsLogitsProcessor, eos_token_ids))
        check_ids("bad_words_ids", (i for ids in config.bad_words_ids for i in ids), vocabulary, DROP_IT)
    if config.remove_invalid_values:
        asked.append(hf.InfNanRemoveLogitsProcessor())
    suppressed = id_list("suppress_tokens", config.suppress_tokens)
    if suppressed:
        check_ids("suppress_tokens", suppressed, vocabulary, DROP_IT)
        asked.append(hf.SuppressTokensLogitsProcessor(suppressed, device=str(device)))
    processors = LogitsProcessorList([*_replaced(asked, own), *_warpers(config, device)])
    if config.renormalize_logits:
        processors.append(hf.LogitNormalization())
    check_callables("logits_processor", own)
    for processor in processors:
        _check(processor)
    return processors


def _replaced(asked: Iterable[Any], own: Sequence[Any]) -> list[Any]:
    """Both, a processor of the caller's in place of one of the same class, as in Transformers."""
    by_class = {type(processor): processor for processor in own if not inspect.isfunction(processor)}
    merged = []
    for processor in asked:
        if type(processor) in by_class:
            warnings.warn(
                f"`logits_processor` has a {type(processor).__name__}, and a field of the generation config asks for "
                "one too; the object is used.", stacklevel=4,
            )  # fmt: skip
            merged.append(by_class[type(processor)])
        else:
            merged.append(processor)
    return [*merged, *(processor for processor in own if not any(processor is other for other in merged))]


def _warpers(config: DiffusionGenerationConfig, device: torch.device) -> list[Any]:
    """What only has a meaning for draws."""
    if not config.do_sample:
        return []
    found: list[Any] = []
    if config.top_h is not None:
        found.append(_made("top_h", config, hf.TopHLogitsWarper))
    if config.top_p is not None and config.top_p < 1:
        found.append(hf.TopPLogitsWarper(top_p=config.top_p))
    if config.min_p is not None:
        found.append(hf.MinPLogitsWarper(min_p=config.min_p))
    if config.typical_p is not None and config.typical_p < 1:
        found.append(_made("typical_p", config, hf.TypicalLogitsWarper))
    if config.epsilon_cutoff is not None and 0 < config.epsilon_cutoff < 1:
        found.append(hf.EpsilonLogitsWarper(epsilon=config.epsilon_cutoff))
    if config.eta_cutoff is not None and 0 < config.eta_cutoff < 1:
        found.append(hf.EtaLogitsWarper(epsilon=config.eta_cutoff, device=str(device)))
    return found


def _made(name: str, config: DiffusionGenerationConfig, processor: type, *further: Any) -> Any:
    """The processor of a field's value, which it checks by itself."""
    value = getattr(config, name)
    try:
        return processor(value, *further)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise SettingError(name, f"can't be: {error}".rstrip("."), value=value) from error


def _check(processor: Any) -> None:
    name = LEFT_TO_RIGHT_CLASSES.get(type(processor))
    if isinstance(processor, hf.SequenceBiasLogitsProcessor):  # bad words are a case of it
        several = any(len(ids) > 1 for ids in processor.sequence_bias)
        bad_words = isinstance(processor, hf.NoBadWordsLogitsProcessor)
        name = ("bad_words_ids" if bad_words else "sequence_bias") if several else None
    if name is not None:
        raise SettingError(name, f"({type(processor).__name__}) {ORDER}", WAY_OUT)


class CanvasProcessors:
    """The processors of a run, called for some positions.

    A processor that names `rows`, `positions` or `step` among its arguments gets them: LongTensors [N], rows of the
    batch and positions of the canvas, and the step's number.
    """

    def __init__(self, processors: Iterable[Any]) -> None:
        self.processors = [(processor, _asked(processor)) for processor in processors]

    def __bool__(self) -> bool:
        return bool(self.processors)

    def __call__(self, canvas: Canvas, scores: Tensor, at: Places) -> Tensor:
        """The processed `scores` [N, V] of the positions `at`."""
        if not self.processors:
            return scores
        # they see text only: padding would count as tokens
        text = canvas.ids.masked_fill(canvas.padding, canvas.mask_token_id)[at.rows]
        for processor, asked in self.processors:
            given = processor(text, scores, **{name: getattr(at, name) for name in asked})
            if not isinstance(given, Tensor) or given.shape != scores.shape:
                what = f"shape {tuple(given.shape)}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
                name = getattr(processor, "__name__", type(processor).__name__)
                raise SettingError(
                    "logits_processor", f"({name}) returned {what} for scores of shape {tuple(scores.shape)}",
                    "return scores of that shape",
                )  # fmt: skip
            scores = given
        return scores


def _asked(processor: Any) -> list[str]:
    called = processor if inspect.isfunction(processor) or inspect.ismethod(processor) else processor.__call__
    parameters = inspect.signature(called).parameters
    return [name for name in PLACES if name in parameters]
