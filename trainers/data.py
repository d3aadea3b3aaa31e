"""The data of the training scripts: from a Hub name or files to rows that TRL understands, checked at the door."""

import logging
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from datasets import Dataset, IterableDataset, load_dataset
from trl import DatasetMixtureConfig, get_dataset

from conv_dlm.word_problems import FORMS, LEVELS
from conv_dlm.word_problems.rows import drilled_rows, rows
from trainers.config_checks import check_least
from trainers.rows import check_columns, column_names
from trainers.values import read_values

logger = logging.getLogger(__name__)
Data: TypeAlias = Dataset | IterableDataset

WORD_PROBLEMS = "word_problems"
FILE_KINDS = ("json", "csv", "parquet", "text", "arrow")  # names of `datasets` for loaders of files
PROMPT_TEMPLATES = ("alpaca",)
ALPACA_COLUMNS = ("instruction", "input", "output")
# One preamble for all rows, and an input without a headline: as in the data preparation of arXiv 2509.15188's code
# (revision 2010fe3), which is simpler than Stanford Alpaca's two prompts.
ALPACA_PREAMBLE = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)


@dataclass
class DataArguments:
    """Which data, and how its columns become prompts and responses.

    Rows may hold a `prompt` and a `completion` (strings or messages), `messages`, or a `text` for continued
    pretraining; the options below make such columns from others.

    Args:
        > Where it is

        dataset_name (`str`, *optional*):
            Dataset on the Hub, or a loader of `data_files`: `json`, `csv`, `parquet`; or `word_problems`, an endless
            stream of generated ones ([`conv_dlm.word_problems`]). A mixture of several datasets is described by TRL's
            `datasets` instead.
        dataset_config (`str`, *optional*):
            Configuration of the dataset on the Hub.
        data_files (`list[str]`, *optional*):
            Local files or patterns; in a YAML file also a mapping of split names to them.
        dataset_train_split, dataset_test_split (`str`, *optional*, default to `"train"`, `"test"`):
            Splits to train and to evaluate on.

        > Generated word problems

        problem_seed (`int`, *optional*, defaults to `0`):
            Which problems.
        problem_levels (`list[int]`, *optional*, defaults to `[1, 12]`):
            Least and largest number of operations.
        problem_forms (`list[str]`, *optional*, defaults to `["prose"]`):
            Forms of the solutions, equally frequent; one named twice is twice as frequent.
        problem_rows (`int`, *optional*, defaults to `1`):
            So many problems in a row have the same level and form, and so about the same length. With the batch size,
            batches have little padding.
        problem_drill (`float`, *optional*, defaults to `0.0`):
            Share of these groups that are worksheets, bare sums with their results: many operations for few tokens.
        problem_plain (`bool`, *optional*, defaults to `False`):
            Whether solutions say the same operation in the same words always. Tokens of several wordings don't fit
            together, and a denoiser that writes several at once mixes them.

        > How it is read

        prompt_column, completion_column (`str`, *optional*):
            Columns of strings that become the user's and the assistant's turn of a chat. Set both or neither.
        prompt_template (`str`, *optional*):
            `alpaca`: the columns `instruction`, `input` and `output` become prompt and completion as in the code of
            arXiv 2509.15188, plain strings without a chat template; rows without output are left out.
        tokenizer_name (`str`, *optional*):
            Tokenizer of a model whose own folder has none.
        add_bos_token (`bool`, *optional*, defaults to `False`):
            Begin every text with BOS, for a model that was trained so and whose tokenizer doesn't do it by itself.
            Saved with the tokenizer. Chat templates write their own.

        > Evaluation

        held_out_rows (`int`, *optional*, defaults to `0`):
            Use so many rows of the training split as the evaluation set, in place of `dataset_test_split`: the last
            ones, or the first of a stream, whose end isn't known.
        max_eval_rows (`int`, *optional*):
            Evaluate on at most this many rows of the evaluation set: the last ones, or the first of a stream. All rows
            when unset.

    Raises:
        `ValueError`: half a pair of columns, two ways to read the columns, an unknown template, a count out of range.
    """

    problem_columns: ClassVar[list[str]] = ["prompt", "completion"]  # of generated problems

    dataset_name: str | None = field(default=None, metadata={"help": "Dataset on the Hub, or json, csv, parquet."})
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the dataset."})
    data_files: list[str] | None = field(default=None, metadata={"help": "Files for `dataset_name` json, csv, ..."})
    dataset_train_split: str = field(default="train", metadata={"help": "Split to train on."})
    dataset_test_split: str = field(default="test", metadata={"help": "Split to evaluate on."})
    problem_seed: int = field(default=0, metadata={"help": "Which word problems."})
    problem_levels: list[int] = field(
        default_factory=lambda: list(LEVELS), metadata={"help": "Least and largest number of operations."}
    )
    problem_forms: list[str] = field(
        default_factory=lambda: ["prose"], metadata={"help": f"Forms of the solutions: {', '.join(FORMS)}."}
    )
    problem_rows: int = field(default=1, metadata={"help": "So many problems in a row are of one level and form."})
    problem_drill: float = field(default=0.0, metadata={"help": "Share of problems that are worksheets."})
    problem_plain: bool = field(default=False, metadata={"help": "Say the same step in the same words always."})
    prompt_column: str | None = field(default=None, metadata={"help": "Column with what the user says."})
    completion_column: str | None = field(default=None, metadata={"help": "Column with what the assistant answers."})
    prompt_template: str | None = field(
        default=None, metadata={"help": "`alpaca`: prompts made of the columns instruction, input and output."}
    )
    tokenizer_name: str | None = field(default=None, metadata={"help": "Tokenizer, if not in the model's folder."})
    add_bos_token: bool = field(default=False, metadata={"help": "Begin every text with the tokenizer's BOS."})
    held_out_rows: int = field(default=0, metadata={"help": "Last rows of the training split, kept for evaluation."})
    max_eval_rows: int | None = field(default=None, metadata={"help": "Evaluate on the last so many rows at most."})

    def __post_init__(self) -> None:
        read_values(self)
        if (self.prompt_column is None) != (self.completion_column is None):
            raise ValueError("Set both `prompt_column` and `completion_column`, or neither.")
        if self.prompt_template is not None and self.prompt_template not in PROMPT_TEMPLATES:
            raise ValueError(
                f"`prompt_template={self.prompt_template!r}` is unknown; there is {', '.join(PROMPT_TEMPLATES)}. Name "
                "other columns with `prompt_column` and `completion_column`."
            )
        if self.prompt_template is not None and self.prompt_column is not None:
            raise ValueError("`prompt_template` names its own columns; leave out `prompt_column` or the template.")
        if len(self.problem_levels) != 2:
            raise ValueError(f"`problem_levels={self.problem_levels}` must be two numbers, the least and the largest.")
        check_least(self, problem_rows=1, held_out_rows=0)
        if not 0 <= self.problem_drill < 1:
            raise ValueError(f"`problem_drill={self.problem_drill}` must be a share, at least 0 and below 1.")
        if self.max_eval_rows is not None and self.max_eval_rows < 1:
            raise ValueError(f"`max_eval_rows={self.max_eval_rows}` must be 1 or more; leave it unset for all rows.")

    def read(self, dataset: Any, text_column: str, name: str) -> Any:
        """The rows in one of TRL's formats, none of them empty."""
        if self.prompt_template == "alpaca":
            dataset = to_alpaca(dataset)
        elif self.prompt_column is not None and self.completion_column is not None:
            dataset = to_turns(dataset, self.prompt_column, self.completion_column)
        if isinstance(dataset, Dataset) and not len(dataset):
            raise ValueError(f"The `{name}` data have no rows.")
        check_columns(dataset, text_column, name)
        return dataset


def load_data(
    data_args: DataArguments,
    mixture_args: DatasetMixtureConfig | None = None,
    *,
    evaluate: bool = False,
    text_column: str = "text",
) -> tuple[Data, Data | None]:
    """Training and evaluation set (`None` if not asked for) as the arguments describe them.

    Args:
        data_args ([`DataArguments`]): where the data is and how it is read.
        mixture_args ([`~trl.DatasetMixtureConfig`], *optional*): several datasets, in place of `dataset_name`; and
            whether they are read as streams (`streaming`), whose rows are checked when they are reached.
        evaluate (`bool`, *optional*, defaults to `False`): whether an evaluation set is wanted.
        text_column (`str`, *optional*, defaults to `"text"`): column of full texts (`dataset_text_field`).

    Raises:
        `ValueError`: no data or twice, a split or column that it doesn't have, a row without a response.
    """
    splits = _load_splits(data_args, mixture_args or DatasetMixtureConfig())
    train, test = _split(splits, data_args.dataset_train_split), None
    if isinstance(train, IterableDataset):
        if data_args.held_out_rows:
            test, train = train.take(data_args.held_out_rows), train.skip(data_args.held_out_rows)
        elif evaluate:
            test = _split(splits, data_args.dataset_test_split)
    elif data_args.held_out_rows:
        kept = len(train) - data_args.held_out_rows
        if kept < 1:
            raise ValueError(f"`held_out_rows={data_args.held_out_rows}` leaves nothing of {len(train)} training rows.")
        train, test = train.select(range(kept)), train.select(range(kept, len(train)))
    elif evaluate:
        test = _split(splits, data_args.dataset_test_split)
    train = data_args.read(train, text_column, "train")
    if not evaluate or test is None:
        return train, None
    if isinstance(test, IterableDataset):
        if data_args.dataset_name == WORD_PROBLEMS and not (data_args.max_eval_rows or data_args.held_out_rows):
            raise ValueError("Generated problems have no end: set `max_eval_rows` to evaluate on some of them.")
        test = test if data_args.max_eval_rows is None else test.take(data_args.max_eval_rows)
    elif data_args.max_eval_rows is not None:
        test = test.select(range(max(0, len(test) - data_args.max_eval_rows), len(test)))
    return train, data_args.read(test, text_column, "eval")


def _load_splits(data_args: DataArguments, mixture_args: DatasetMixtureConfig) -> Any:
    if bool(mixture_args.datasets) == bool(data_args.dataset_name):
        raise ValueError("Name the data once: set either `dataset_name` or `datasets`.")
    if data_args.dataset_name == WORD_PROBLEMS:
        return {split: word_problems(data_args, split) for split in ("train", "validation", "test", "unseen")}
    name, files = data_args.dataset_name, data_args.data_files
    if name in FILE_KINDS and not files:
        raise ValueError(f"`dataset_name={name}` reads files: name them by `data_files`.")
    try:
        if mixture_args.datasets:
            return get_dataset(mixture_args)
        return load_dataset(str(name), data_args.dataset_config, data_files=files, streaming=mixture_args.streaming)
    except Exception as error:  # of the readers' many kinds
        what = "`datasets`" if name is None else f"`dataset_name={name}`"
        what += f" with `data_files={files}`" if files else ""
        kinds = ", ".join(FILE_KINDS)
        if files:
            remedy = f"are they there, and {name}?" if name in FILE_KINDS else f"for files it is one of {kinds}."
        else:
            remedy = f"mend the name, or connect; for files it is one of {kinds}, with `data_files`."
        raise ValueError(f"{what} can't be loaded: {cause(error)}; {remedy}") from error


def cause(error: BaseException) -> str:
    """The first cause of an error, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, StopIteration):
        return "there are no rows"
    return (" ".join(str(error).split()) or type(error).__name__).rstrip(".")


def word_problems(data_args: DataArguments, split: str) -> IterableDataset:
    """The endless stream of generated problems of a split, as prompts and completions.

    Raises:
        `ValueError`: levels or forms that there are not.
    """
    options: dict[str, Any] = {
        "seed": data_args.problem_seed,
        "split": split,
        "levels": tuple(data_args.problem_levels),
        "forms": tuple(data_args.problem_forms),
        "alike": data_args.problem_rows,
        "plain": data_args.problem_plain,
    }
    next(rows(**options))  # a mistake in the options is told here
    drill = data_args.problem_drill if split == "train" else 0.0
    stream = IterableDataset.from_generator(drilled_rows, gen_kwargs={"drill": drill, "options": options})
    return stream.select_columns(data_args.problem_columns)


def _split(splits: Any, name: str) -> Any:
    if name not in splits:
        raise ValueError(
            f"The data has no split `{name}`, only {', '.join(splits)}: set `dataset_train_split` or "
            "`dataset_test_split`, or `held_out_rows` to evaluate on rows of the training split."
        )
    return splits[name]


def to_turns(dataset: Any, prompt_column: str, completion_column: str) -> Any:
    """Two columns of strings as one turn of a user and one of an assistant, in TRL's prompt-completion format."""
    _need_columns(dataset, prompt_column, completion_column)
    return dataset.map(
        lambda row: {
            "prompt": [{"role": "user", "content": row[prompt_column]}],
            "completion": [{"role": "assistant", "content": row[completion_column]}],
        },
        remove_columns=column_names(dataset),
    )


def to_alpaca(dataset: Any) -> Any:
    """Alpaca's three columns as prompt and completion, strings; rows without output are left out and counted."""
    _need_columns(dataset, *ALPACA_COLUMNS)
    answered = dataset.filter(lambda row: bool((row["output"] or "").strip()))
    if isinstance(dataset, Dataset) and len(answered) < len(dataset):
        logger.warning("%d of %d rows have no `output` and are left out.", len(dataset) - len(answered), len(dataset))
    return answered.map(
        lambda row: {
            "prompt": alpaca_prompt(row["instruction"], row["input"] or ""),
            "completion": row["output"].strip(),
        },
        remove_columns=column_names(dataset),
    )


def alpaca_prompt(instruction: str, context: str = "") -> str:
    """The prompt of the Alpaca rows, up to where the response begins; to ask a model that was trained on them."""
    task = f"### Instruction:\n{instruction}"
    return "\n\n".join([ALPACA_PREAMBLE, task, *([context] if context else []), "### Response:\n"])


def _need_columns(dataset: Any, *wanted: str) -> None:
    columns = column_names(dataset)
    for column in wanted:
        if column not in columns:
            raise ValueError(f"The data has no column `{column}`; its columns are {', '.join(columns)}.")
