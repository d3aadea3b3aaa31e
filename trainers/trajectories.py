"""A model's own answers with the order in which it wrote them: the data of `trainers.distill`.

    python -m trainers.trajectories --config configs/distill/embedded_trajectories.yaml
    python -m trainers.trajectories --model_name_or_path outputs/embedded/diffusion --dataset_name word_problems \\
        --rows 2000 --generate_kwargs '{"decode_type": "llada", "block_length": 32, "max_new_tokens": 128}' \\
        --judge word_problem_answer --output outputs/embedded/trajectories.jsonl

Each prompt gives a line: the ids of prompt and answer, the step in which each token of the answer was written
(`unmasked_at`), the length of the canvas, and what the judge says. An interrupted run goes on where it stopped, by the
same command; other arguments for the same file are an error. It is one process; `--first_row` divides the work.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trl import TrlParser

import conv_dlm  # noqa: F401  registers the models
from conv_dlm.answering.batching import row_generator
from conv_dlm.utils.files import write_json
from trainers.answering import judged, load, prompt_ids
from trainers.config_checks import check_least
from trainers.data import load_data
from trainers.prompts import PromptArguments
from trainers.rewards import find_reward
from trainers.rollouts import denoise
from trainers.values import read_values


@dataclass
class TrajectoryArguments:
    """What is written, by which model.

    Args:
        model_name_or_path (`str`): the model that answers.
        output (`str`): the file, JSON lines.
        rows (`int`): prompts to answer.
        first_row (`int`, *optional*, defaults to `0`): the first of them.
        generate_kwargs (`dict`, *optional*): keywords of `generate`.
        judge (`str`, *optional*): a reward, whose value for the answer is kept as `reward`.
        batch_size (`int`, *optional*, defaults to `16`): prompts at a time; the answers don't depend on it.
        seed (`int`, *optional*, defaults to `0`): of the draws.
        dtype (`str`, *optional*, defaults to `"auto"`): of the weights.
        device (`str`, *optional*): a GPU if there is one.

    Raises:
        `ValueError`: a number out of range, or keywords that are no JSON object.
    """

    model_name_or_path: str = field(metadata={"help": "The model that answers."})
    output: str = field(metadata={"help": "File to write, JSON lines."})
    rows: int = field(metadata={"help": "Prompts to answer."})
    first_row: int = field(default=0, metadata={"help": "The first prompt."})
    generate_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keywords of `generate`, as JSON."}
    )
    judge: str | None = field(default=None, metadata={"help": "A reward, kept with each answer."})
    batch_size: int = field(default=16, metadata={"help": "Prompts at a time."})
    seed: int = field(default=0, metadata={"help": "Seed of the draws."})
    dtype: str = field(default="auto", metadata={"help": "Dtype of the weights."})
    device: str | None = field(default=None, metadata={"help": "Device; a GPU if there is one."})

    def __post_init__(self) -> None:
        read_values(self)
        self.generate_kwargs = self.generate_kwargs or {}
        check_least(self, rows=1, first_row=0, batch_size=1)


def write_trajectories(arguments: TrajectoryArguments, data: PromptArguments) -> int:
    """Answer the prompts that the file does not have yet; returns how many it has now.

    Raises:
        `ValueError`: the file was begun with other arguments; fewer prompts than `rows`; keywords that `generate`
            refuses.
    """
    path = Path(arguments.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    check_settings(path, {**asdict(arguments), **asdict(data)})
    done = whole_lines(path)
    if done >= arguments.rows:
        return done
    prompts, _ = load_data(data)
    start = arguments.first_row + done
    rows = itertools.islice(prompts, start, arguments.first_row + arguments.rows)
    model, tokenizer = load(arguments.model_name_or_path, arguments.dtype, arguments.device)
    judge = find_reward(arguments.judge) if arguments.judge else None
    with path.open("a", encoding="utf-8") as file:
        index = start
        while batch := list(itertools.islice(rows, arguments.batch_size)):
            for line in answer(model, tokenizer, batch, index, arguments, judge):
                file.write(json.dumps(line) + "\n")
            file.flush()
            index += len(batch)
    if index < arguments.first_row + arguments.rows:
        raise ValueError(f"`rows={arguments.rows}`: the data have only {index} prompts; set it to what is there.")
    return arguments.rows


def answer(
    model: Any, tokenizer: Any, batch: list[dict[str, Any]], index: int, arguments: TrajectoryArguments, judge: Any
) -> Iterator[dict[str, Any]]:
    """The lines of a batch whose first row has this index; each row's draws are its own."""
    asked = prompt_ids(tokenizer, batch)
    seeds = [row_generator(arguments.seed, index + n).initial_seed() for n in range(len(batch))]
    assert isinstance(arguments.generate_kwargs, dict)
    rollout = denoise(model, asked, seeds, tokenizer.pad_token_id, **arguments.generate_kwargs)
    rewards: list[float | None] = [None] * len(batch)
    if judge is not None:
        rewards = judged(judge, tokenizer, batch, rollout.completion_ids)
    steps = rollout.unmasked_at_BC.tolist()
    for n, ids in enumerate(rollout.completion_ids):
        yield {
            "prompt_ids": list(asked[n]),
            "completion_ids": ids,
            "unmasked_at": steps[n][: len(ids)],
            "canvas_length": len(steps[n]),
            "forwards": rollout.forwards[n],
            "reward": rewards[n],
        }


def check_settings(path: Path, settings: dict[str, Any]) -> None:
    """Keep the arguments beside the file, or compare them with those that are there.

    Raises:
        `ValueError`: the file was begun with others.
    """
    told = {name: value for name, value in settings.items() if name not in ("rows", "batch_size", "device", "output")}
    told = json.loads(json.dumps(told, default=str))
    beside = path.with_suffix(path.suffix + ".settings.json")
    if not beside.is_file():
        if path.exists():
            raise ValueError(f"`output={path}` exists, and is no unfinished run: name another file.")
        write_json(beside, told)
        return
    before = json.loads(beside.read_text(encoding="utf-8"))
    others = sorted(name for name in told.keys() | before.keys() if told.get(name) != before.get(name))
    if others:
        raise ValueError(
            f"`output={path}` was begun with other values of {', '.join(others)}: give those of {beside.name}, or name "
            "another file."
        )


def whole_lines(path: Path) -> int:
    """How many lines a file has; one that was cut off is dropped."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        with path.open("r+b") as file:
            file.truncate(end)
    return content[:end].count(b"\n")


def make_parser() -> TrlParser:
    classes: Any = [TrajectoryArguments, PromptArguments]
    return TrlParser(classes, description=__doc__)


def main(argv: list[str] | None = None) -> None:
    arguments, data = make_parser().parse_args_and_config(argv)
    count = write_trajectories(arguments, data)
    print(f"{count} answers in {arguments.output}.")


if __name__ == "__main__":
    main()
