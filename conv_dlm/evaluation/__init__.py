"""Measuring generated text. The metrics need nothing but the text or its tokens."""

from conv_dlm.evaluation.metrics import (
    count_annotations,
    gsm8k_correct,
    is_well_formed,
    last_number,
    mean_with_error,
    ratio_with_error,
    repeated_ngrams,
)

__all__ = [
    "count_annotations",
    "gsm8k_correct",
    "is_well_formed",
    "last_number",
    "mean_with_error",
    "ratio_with_error",
    "repeated_ngrams",
]
