"""Metrics of generated text. Most of them need only the text or its tokens."""

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
from conv_dlm.evaluation.metrics import (
    distinct_ngrams,
    distinct_ngrams_with_error,
    inlier_rate,
    inliers,
    is_empty,
    mauve,
    repeated_ngrams,
)
from conv_dlm.evaluation.perplexity import load_scorer, perplexity_with_error, text_losses
from conv_dlm.evaluation.statistics import difference_with_error, mean_with_error, ratio_with_error

__all__ = [
    "ANSWER_RULES",
    "count_annotations",
    "difference_with_error",
    "distinct_ngrams",
    "distinct_ngrams_with_error",
    "flexible_match",
    "gsm8k_correct",
    "inlier_rate",
    "inliers",
    "is_empty",
    "is_well_formed",
    "last_number",
    "load_scorer",
    "mauve",
    "mean_with_error",
    "paper_match",
    "perplexity_with_error",
    "ratio_with_error",
    "repeated_ngrams",
    "strict_match",
    "text_losses",
]
