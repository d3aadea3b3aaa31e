"""Transformers' logits processors on a canvas: which ones have a meaning there.

A processor is called with one row for each position: ids [N, L] (the canvas, masks included) and scores [N, V]. Those
that read the ids as "what came before" would be wrong without a sound, so they are refused here.
"""

from transformers import LogitsProcessorList
from transformers.generation import logits_process as hf

# processor class -> the argument of `generate` behind it
LEFT_TO_RIGHT: dict[type, str] = {
    hf.NoRepeatNGramLogitsProcessor: "no_repeat_ngram_size",
    hf.EncoderNoRepeatNGramLogitsProcessor: "encoder_no_repeat_ngram_size",
    hf.EncoderRepetitionPenaltyLogitsProcessor: "encoder_repetition_penalty",
    hf.PrefixConstrainedLogitsProcessor: "prefix_allowed_tokens_fn",
    hf.MinLengthLogitsProcessor: "min_length` or `min_new_tokens",
    hf.MinNewTokensLengthLogitsProcessor: "min_new_tokens",
    hf.ForcedBOSTokenLogitsProcessor: "forced_bos_token_id",
    hf.ForcedEOSTokenLogitsProcessor: "forced_eos_token_id",
    hf.SuppressTokensAtBeginLogitsProcessor: "begin_suppress_tokens",
    hf.ExponentialDecayLengthPenalty: "exponential_decay_length_penalty",
    hf.WatermarkLogitsProcessor: "watermarking_config",
    hf.SynthIDTextWatermarkLogitsProcessor: "watermarking_config",
    hf.UnbatchedClassifierFreeGuidanceLogitsProcessor: "guidance_scale",
}


def check_processors(processors: LogitsProcessorList) -> None:
    """Raise ValueError for a processor that only makes sense from left to right."""
    for processor in processors:
        argument = LEFT_TO_RIGHT.get(type(processor))
        if isinstance(processor, hf.SequenceBiasLogitsProcessor):  # bad words are a case of it
            several = [ids for ids in processor.sequence_bias if len(ids) > 1]
            if several:
                argument = "bad_words_ids` or `sequence_bias"
        if argument is not None:
            raise ValueError(
                f"`{argument}` ({type(processor).__name__}) needs the tokens before a position, which denoising "
                "decides in any order. Drop it; `suppress_tokens`, `repetition_penalty` and `bad_words_ids` of one "
                "token each work."
            )
