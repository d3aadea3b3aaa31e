"""Measuring generated text. The metrics of texts need nothing but the text or its tokens."""

from conv_dlm.evaluation.gsm8k import (
    ANSWER_RULES,
    count_annotations,
    flexible_match,
    gsm8k_correct,
    is_well_formed,
    last_number,
    paper_match,
    strict_match,
)
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
    distinct_ngrams,
    distinct_ngrams_with_error,
    inlier_rate,
    inliers,
    is_empty,
    mauve,
    mean_log_prior,
    repeated_ngrams,
)
from conv_dlm.evaluation.perplexity import load_scorer, perplexity_with_error, text_losses
from conv_dlm.evaluation.statistics import difference_with_error, mean_with_error, ratio_with_error

__all__ = [
    "ANSWER_RULES",
    "KINDS",
    "count_annotations",
    "difference_with_error",
    "distinct_ngrams",
    "distinct_ngrams_with_error",
    "flexible_match",
    "gsm8k_correct",
    "high_prior_tokens",
    "inlier_rate",
    "inliers",
    "is_empty",
    "is_well_formed",
    "kind_masses",
    "kinds_of_tokens",
    "last_number",
    "load_scorer",
    "log_priors",
    "mauve",
    "mean_log_prior",
    "mean_with_error",
    "paper_match",
    "perplexity_with_error",
    "ratio_with_error",
    "repeated_ngrams",
    "strict_match",
    "text_losses",
    "token_counts",
    "token_kinds",
]
