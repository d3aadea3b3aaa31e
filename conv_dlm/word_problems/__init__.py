"""Arithmetic word problems with worked solutions, from a generator: a data set that is a program.

`problem` makes the problem with an index, `problems` a run of them, `rows` the same as training data; `check` says what
is right and what is wrong with an answer. Nothing but Python's standard library is needed.
"""

from conv_dlm.word_problems.checker import Verdict, check, loops
from conv_dlm.word_problems.problem import FORMS, LEVELS, LIMITS, SPLITS, Problem, problem, problems
from conv_dlm.word_problems.rows import row, rows, write_rows

__all__ = [
    "FORMS",
    "LEVELS",
    "LIMITS",
    "SPLITS",
    "Problem",
    "Verdict",
    "check",
    "loops",
    "problem",
    "problems",
    "row",
    "rows",
    "write_rows",
]
