"""What a grid's samples become: files with the table, and the plots of arXiv 2509.15188's figures 3, 4, 7 and 8."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.decoding_study import differences
from benchmarks.decoding_study.grid import distinct_samples
from benchmarks.decoding_study.grid_run import Grid
from benchmarks.decoding_study.long_window import high_prior_tokens, kinds_of_tokens, token_counts
from benchmarks.decoding_study.prompt_set import PromptSet
from benchmarks.decoding_study.scoring import Scorer, score_samples
from benchmarks.decoding_study.table import Measures, TableRow, log_priors_of, reference_figures, table_of, to_markdown
from benchmarks.decoding_study.window import mass_curves, prompt_kinds, window_masses
from conv_dlm.evaluation.figures import Figure
from conv_dlm.evaluation.gsm8k import ANSWER_RULES
from conv_dlm.evaluation.sample_folder import Sample, SampleFolder
from conv_dlm.utils.files import write_atomically, write_json

TABLE, TABLE_FOR_PEOPLE, WINDOW, PLOTS = "table.json", "table.md", "window.json", "plots"
QUALITIES = (
    *(f"accuracy_{rule}" for rule in ANSWER_RULES),
    "accuracy",
    "sound",
    "form",
    "equations",
    "steps_right",
    "loops",
    "well_formed",
    "perplexity",
    "inliers",
    "repeated_4grams",
    "log_prior",
)
COSTS = ("forwards", "seconds")
BASELINE = "topk"  # what the others are compared with prompt by prompt: the same rule without a window


Progress = Callable[[Sequence[Any], Callable[[Any], int], str], Iterable[Any]]  # of pieces, their sizes, what they are


def _silent(pieces: Sequence[Any], size: Callable[[Any], int], unit: str) -> Iterable[Any]:
    return pieces


@dataclass(frozen=True)
class Table:
    """Samples, each once, and what they were measured to be: a row for each setting, and the references' figures."""

    samples: list[Sample]
    rows: list[TableRow]
    references: dict[str, Figure]


def make_table(
    grid: Grid,
    folder: SampleFolder,
    prompt_set: PromptSet,
    rules: Sequence[str],
    scorer: Scorer | None,
    batch_size: int,
    run: dict[str, Any],
    progress: Progress = _silent,
) -> Table:
    """Measure the samples of the folder, and write its `table.json` and `table.md`.

    Args:
        prompt_set ([`PromptSet`]): the prompts, with an answer to each as it should be, or none.
        rules: names of `ANSWER_RULES`.
        scorer: for perplexities, or none.
        batch_size (`int`): texts that are scored at a time.
        run (`dict`): the circumstances of this, as `describe_run` gives them; those of the samples are in the folder.
    """
    records, references = folder.samples(), prompt_set.references
    samples, tokenizer = distinct_samples(records), grid.one.tokenizer
    log_priors_V = scores = reference_scores = None
    if references is not None:
        log_priors_V = log_priors_of(references, tokenizer, grid.one.model.config.vocab_size)
    if scorer is not None:
        scores, reference_scores = score_samples(
            samples,
            references,
            tokenizer,
            scorer,
            folder.path,
            batch_size,
            lambda chunks: progress(chunks, len, "text"),
        )
    measures = Measures(tokenizer, references, rules, log_priors_V, scores, reference_scores, prompt_set.score)
    rows, of_references = table_of(samples, measures), reference_figures(measures)
    runs = [record["run"] for record in records if "run" in record]
    less_baseline = differences.differences(samples, measures, differences.with_type(BASELINE))
    less_plain = differences.differences(samples, measures, differences.with_unvaried)
    less_blocks = differences.differences(samples, measures, differences.with_blocks)
    result = {"rows": rows, "references": of_references, f"less_{BASELINE}": less_baseline}
    result |= {"less_plain": less_plain, "less_blocks": less_blocks}
    write_json(folder.path / TABLE, result | {"settings": folder.settings, "runs": runs, "measured": run})
    text = to_markdown(rows, of_references) + differences.to_markdown(less_baseline, f"less `{BASELINE}`")
    text += differences.to_markdown(less_plain, "less the same unvaried")
    text += differences.to_markdown(less_blocks, "less the same rule in blocks")
    write_atomically(folder.path / TABLE_FOR_PEOPLE, text)
    return Table(samples, rows, of_references)


def masses_by_distance(
    grid: Grid, references: Sequence[str], folder: Path, batch_size: int, progress: Progress = _silent
) -> dict[str, Any]:
    """Mass on kinds of tokens by distance from the prompt, of the model and of the references.

    What is frequent, and the reference curve, come from the references.

    Args:
        folder: of the run; what is measured is kept in it, and measured once.
        batch_size (`int`): prompts that are measured at a time.
    """
    model, tokenizer, prompts = grid.one.model, grid.one.tokenizer, grid.ids
    canvas = grid.one.decoding["max_new_tokens"]
    file = folder / WINDOW
    if file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["model"]["n"] == len(prompts):
            return dict(kept)
    answers = [tokenizer(text, add_special_tokens=False).input_ids for text in references]
    counts_V = token_counts(answers, model.config.vocab_size)
    high_prior_V = high_prior_tokens(counts_V, exclude=set(tokenizer.all_special_ids))
    masses: list[Any] = []
    batches = [prompts[start : start + batch_size] for start in range(0, len(prompts), batch_size)]
    for batch in progress(batches, len, "prompt"):
        masses += window_masses(model, tokenizer, batch, canvas, high_prior_V).tolist()
    padded_BK = torch.tensor([(answer + [tokenizer.eos_token_id] * canvas)[:canvas] for answer in answers])
    texts_BGK = kinds_of_tokens(padded_BK, prompt_kinds(tokenizer, prompts, high_prior_V))
    curves = {"model": mass_curves(masses), "reference": mass_curves(texts_BGK.tolist())}
    write_json(file, curves)
    return curves


def draw(folder: Path, table: Table, canvas: int, masses: dict[str, Any] | None) -> list[Path]:
    """Draw everything that there are figures for, into the folder of the run; returns the files.

    Args:
        canvas (`int`): tokens of a response.
        masses: as `masses_by_distance` returns them, or none.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from benchmarks.decoding_study import plots
    from benchmarks.decoding_study.pareto import settings_by_cost

    references = table.references
    figures: dict[str, Any] = {}
    plain = [row for row in table.rows if not row["varied"]]
    for metric in QUALITIES:
        if any(row.get(metric) for row in plain):
            figures[f"{metric}_by_size"] = plots.quality_by_size(plain, metric, canvas, references.get(metric))
            for cost in COSTS:
                figure = plots.quality_by_cost(plain, metric, cost, references.get(metric))
                figures[f"{metric}_by_{cost}"] = figure
        if metric.startswith("accuracy") and any(row.get(metric) for row in table.rows):
            figures |= {f"{metric}_front_{cost}": settings_by_cost(table.rows, metric, cost) for cost in COSTS}
    if plain:
        unvaried = [sample for sample in table.samples if not sample["varied"]]
        figures["decided_positions"] = plots.decided_positions(unvaried)
    if masses is not None:
        figures["mass_by_distance"] = plots.mass_by_distance({"model": masses["model"]}, masses["reference"])
    (folder / PLOTS).mkdir(exist_ok=True)
    paths = [folder / PLOTS / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        plots.save(figure, path)
    return paths
