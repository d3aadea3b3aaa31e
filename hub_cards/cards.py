"""Write the model cards of the folders here, from `card.yaml` and the records that it names.

    python -m hub_cards.cards

The template is the one that the trainers write their cards with. `card.yaml` has the words; every figure in them is an
expression over the records, results of a command or the recipe itself, so that none is typed by hand. Known in it: the
records by name; `recipe`, a recipe's values by its path; `mean` and `share`, a measured value with its standard error.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined

import conv_dlm
from conv_dlm.utils.environment import ROOT
from conv_dlm.utils.files import write_atomically
from trainers.model_card import MDLM_PAPER, R2FT_PAPER, SETTINGS, fill_in, hub_link

HERE = Path(__file__).resolve().parent
PAPERS = {"MDLMTrainer": MDLM_PAPER, "R2FTTrainer": R2FT_PAPER}
TRAINERS = {"train_sft.py": "MDLMTrainer", "train_r2ft.py": "R2FTTrainer"}
Measured = Sequence[float]  # a mean and its standard error


def mean(value: Measured, digits: int = 3) -> str:
    return f"{value[0]:.{digits}f} ± {value[1]:.{digits}f}"


def share(value: Measured, digits: int = 1) -> str:
    """Of a share, percent."""
    return mean([100 * part for part in value], digits)


@cache
def record(path: str) -> Any:
    """A JSON or YAML file of the repository."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return json.loads(text) if path.endswith(".json") else yaml.safe_load(text)


def words(text: str, records: dict[str, Any]) -> str:
    """Fill in a text of `card.yaml`."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"recipe": record, "mean": mean, "share": share}
    return environment.from_string(text).render(records).strip()


def evaluation_results(results: list[dict[str, Any]], records: dict[str, Any]) -> list[EvalResult]:
    """The measured values of `card.yaml` for the model index, each with its standard error and number of rows."""
    environment = Environment(undefined=StrictUndefined)
    found = []
    for result in results:
        measured = environment.compile_expression(result["value"])(**records)
        count = environment.compile_expression(result["n"])(**records)
        found.append(
            EvalResult(
                task_type="text-generation",
                dataset_type=result["dataset"],
                dataset_name=words(result["dataset_name"], records),
                dataset_split=result["split"],
                metric_type=result["metric"],
                metric_name=words(result["name"], records),
                metric_value=round(measured[0], 4),
                metric_args={"standard_error": round(measured[1], 4), "n": count},
            )
        )
    return found


def card(folder: Path) -> str:
    """The card of a folder with a `card.yaml`."""
    about = yaml.safe_load((folder / "card.yaml").read_text(encoding="utf-8"))
    records = {name: record(path) for name, path in about["records"].items()}
    recipe, base = record(about["recipe"]), about["metadata"].get("base_model")
    trainer = TRAINERS[about["script"]]
    paper = PAPERS[trainer]
    results = evaluation_results(about.get("results", []), records)
    metadata = ModelCardData(
        **about["metadata"],
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=sorted({"masked-diffusion", "diffusion-language-model", "conv-dlm", *about.get("tags", ())}),
        **({"model_name": folder.name, "eval_results": results} if results else {}),
    )
    sections = {title: words(text, records) for title, text in about["sections"].items()}
    optional: dict[str, Any] = {name: words(about[name], records) for name in ("about", "history") if name in about}
    data = next(iter(about["metadata"].get("datasets", ())), None)
    # Where rows are as long as their canvas, prompts are a part of it, and it is not what one generates on.
    canvas = recipe["canvas_length"] if recipe["canvas_length"] < recipe["max_length"] else None
    return fill_in(
        metadata=metadata.to_yaml(),
        name=folder.name,
        trainer=trainer,
        adapter=None,
        auto_class="AutoModelForCausalLM",
        base_link=base and hub_link(base),
        repository=about["repository"],
        denoises=True,
        chats=about["chats"],
        question=about["question"],
        canvas=canvas,
        new_tokens=canvas or about["new_tokens"],
        steps=about["steps"],
        method=paper["method"],
        paper=paper["id"],
        data_link=data and hub_link(data, "datasets/"),
        data_licence=about["data_licence"],
        rows=words(str(about["rows"]), records),
        settings={f"`{name}`": recipe[name] for name in SETTINGS if recipe.get(name) is not None},
        evaluation=None,
        hardware=words(about["hardware"], records) if "hardware" in about else None,
        versions=words(about["versions"], records),
        sections=sections,
        citation=paper["citation"],
        **optional,
    )


def folders() -> list[Path]:
    """Those whose card is written here."""
    return sorted(path.parent for path in HERE.glob("*/card.yaml"))


def main() -> None:
    for folder in folders():
        write_atomically(folder / "README.md", card(folder))
        print(f"{folder.name}: written by conv-dlm {conv_dlm.__version__}")


if __name__ == "__main__":
    main()
