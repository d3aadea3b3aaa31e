"""Measuring generated text. The metrics of texts need nothing but the text or its tokens."""

from conv_dlm.evaluation.long_window import (
    KINDS,
    high_prior_tokens,
    kind_masses,
    kinds_of_tokens,
    log_priors,
    token_counts,
    token_kinds,
)
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
    "KINDS",
    "count_annotations",
    "gsm8k_correct",
    "high_prior_tokens",
    "is_well_formed",
    "kind_masses",
    "kinds_of_tokens",
    "last_number",
    "log_priors",
    "mean_with_error",
    "ratio_with_error",
    "repeated_ngrams",
    "token_counts",
    "token_kinds",
]
