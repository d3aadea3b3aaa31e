"""trainers.data: from names, files and columns to rows that train, and what is refused at the door."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, IterableDataset, load_dataset
from trl import DatasetMixtureConfig

from conv_dlm.word_problems import rows
from trainers.data import DataArguments, alpaca_prompt, load_data, to_alpaca, to_turns
from trainers.rows import check_columns

COLUMNS = {"prompt_column": "question", "completion_column": "answer"}
ALPACA = [
    {"instruction": "Add the numbers.", "input": "1, 2", "output": "3\n"},
    {"instruction": "Say nothing.", "input": "", "output": ""},
    {"instruction": "Name a colour.", "input": "", "output": "Red."},
]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def from_file(path: Path, rows: list[dict[str, Any]], **settings: Any) -> DataArguments:
    return DataArguments(dataset_name="json", data_files=[write(path, rows)], **settings)


# Columns


def test_columns_become_turns_and_the_last_rows_are_held_out(questions_file: Path) -> None:
    arguments = DataArguments(
        dataset_name="json", data_files=[str(questions_file)], held_out_rows=4, max_eval_rows=3, **COLUMNS
    )
    train, test = load_data(arguments, evaluate=True)
    assert test is not None
    assert (len(train), len(test)) == (12, 3)
    assert train[0] == {
        "prompt": [{"role": "user", "content": "What is 1 and 1?"}],
        "completion": [{"role": "assistant", "content": "It is 2. #### 2"}],
    }
    assert test[2]["prompt"][0]["content"] == "What is 4 and 4?"
    assert load_data(arguments)[1] is None


def test_the_alpaca_template_is_the_papers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="trainers.data"):
        made = to_alpaca(Dataset.from_list(ALPACA))
    assert "1 of 3 rows have no `output`" in caplog.text
    assert made.column_names == ["prompt", "completion"]
    preamble = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    )
    assert made[0]["prompt"] == f"{preamble}\n\n### Instruction:\nAdd the numbers.\n\n1, 2\n\n### Response:\n"
    assert made[1]["prompt"] == f"{preamble}\n\n### Instruction:\nName a colour.\n\n### Response:\n"
    assert [row["completion"] for row in made] == ["3", "Red."]
    assert alpaca_prompt("Name a colour.") == made[1]["prompt"]


def test_the_template_is_chosen_by_name(tmp_path: Path) -> None:
    train, _ = load_data(from_file(tmp_path / "alpaca.jsonl", ALPACA, prompt_template="alpaca"))
    assert len(train) == 2
    assert train[1]["completion"] == "Red."


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "One and one?", "completion": "Two."},
        {"prompt": [{"role": "user", "content": "1+1?"}], "completion": [{"role": "assistant", "content": "2"}]},
        {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]},
        {"text": "One and one are two."},
        {"input_ids": [5, 6, 2]},
    ],
    ids=lambda row: "+".join(row),
)
def test_trls_formats_pass_as_they_are(tmp_path: Path, row: dict[str, Any]) -> None:
    train, _ = load_data(from_file(tmp_path / "data.jsonl", [row] * 2))
    assert train[1] == row


def test_text_may_stand_in_another_column(tmp_path: Path) -> None:
    arguments = from_file(tmp_path / "data.jsonl", [{"story": "Once."}])
    assert load_data(arguments, text_column="story")[0][0] == {"story": "Once."}
    with pytest.raises(ValueError, match="their columns are story"):
        load_data(arguments)


def test_mixtures_and_files_by_split(tmp_path: Path) -> None:
    one, two = (write(tmp_path / f"{n}.jsonl", [{"text": f"{n} {i}"} for i in range(4)]) for n in ("a", "b"))
    mixture = DatasetMixtureConfig(datasets=[{"path": "json", "data_files": file} for file in (one, two)])
    assert [row["text"] for row in load_data(DataArguments(), mixture)[0]][3:5] == ["a 3", "b 0"]
    by_split: Any = {"train": one, "test": two}
    arguments = DataArguments(dataset_name="json", data_files=by_split)
    assert load_data(arguments, evaluate=True)[1][0] == {"text": "b 0"}  # type: ignore[index]


def test_streams(questions_file: Path, tmp_path: Path) -> None:
    file = dict(dataset_name="json", data_files=[str(questions_file)], held_out_rows=4, max_eval_rows=3, **COLUMNS)
    train, test = load_data(DataArguments(**file), DatasetMixtureConfig(streaming=True), evaluate=True)
    whole, end = load_data(DataArguments(**file), evaluate=True)
    assert isinstance(train, IterableDataset) and isinstance(test, IterableDataset)
    assert len(list(train)) == len(whole) == 12 and len(list(test)) == len(end) == 3
    asked = [row["prompt"][0]["content"] for row in (*test, *train)]
    assert len(set(asked)) == 15  # the first rows are held out, for a stream's end isn't known
    mixture = DatasetMixtureConfig(datasets=[{"path": "json", "data_files": str(questions_file)}], streaming=True)
    assert len(list(load_data(DataArguments(**COLUMNS), mixture)[0])) == 16
    alpaca = from_file(tmp_path / "alpaca.jsonl", ALPACA, prompt_template="alpaca")
    assert len(list(load_data(alpaca, DatasetMixtureConfig(streaming=True))[0])) == 2
    with pytest.raises(ValueError, match="no column `solution`; its columns are question, answer"):
        load_data(DataArguments(**file | dict(completion_column="solution")), DatasetMixtureConfig(streaming=True))


def test_word_problems_are_an_endless_stream() -> None:
    arguments = DataArguments(
        dataset_name="word_problems",
        problem_seed=3,
        problem_levels=[2, 5],
        problem_forms=["prose", "json"],
        problem_rows=4,
        problem_plain=True,
        dataset_test_split="validation",
        max_eval_rows=5,
    )
    train, test = load_data(arguments, evaluate=True)
    options = dict(levels=(2, 5), forms=("prose", "json"), alike=4, plain=True)
    expected = [{name: one[name] for name in ("prompt", "completion")} for one in rows(3, 40, **options)]
    assert list(train.take(40)) == expected
    assert list(train.take(3)) == expected[:3]  # from the start again
    assert len(list(test)) == 5
    with pytest.raises(ValueError, match="have no end: set `max_eval_rows`"):
        load_data(DataArguments(dataset_name="word_problems"), evaluate=True)


def test_a_share_of_worksheets() -> None:
    arguments = DataArguments(
        dataset_name="word_problems", problem_forms=["json"], problem_rows=3, problem_drill=0.25, max_eval_rows=30,
        dataset_test_split="validation",
    )  # fmt: skip
    train, test = load_data(arguments, evaluate=True)
    asked = [row["prompt"][0]["content"] for row in train.take(24)]
    is_story = ["JSON" in question for question in asked]  # sheets are in prose
    assert is_story == 2 * ([True] * 9 + [False] * 3)
    assert [question for question, story in zip(asked, is_story, strict=True) if story] == [
        row["prompt"][0]["content"] for row in rows(0, 18, levels=(1, 12), forms=("json",), alike=3)
    ]
    assert all("JSON" in row["prompt"][0]["content"] for row in test)


# Bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt_column": "question"}, "completion_column"),
        ({"prompt_template": "alpacca"}, "prompt_template='alpacca'"),
        ({"prompt_template": "alpaca", **COLUMNS}, "names its own columns"),
        ({"held_out_rows": -1}, "held_out_rows=-1"),
        ({"max_eval_rows": 0}, "max_eval_rows=0"),
        ({"problem_levels": [3]}, "two numbers, the least and the largest"),
        ({"problem_rows": 0}, "problem_rows=0"),
        ({"problem_drill": 1.0}, "problem_drill=1.0"),
    ],
)
def test_impossible_arguments_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataArguments(**settings)


def test_data_is_named_once(questions_file: Path) -> None:
    mixture = DatasetMixtureConfig(datasets=[{"path": "json", "data_files": str(questions_file)}])
    for arguments, mixed in ((DataArguments(), None), (DataArguments(dataset_name="json"), mixture)):
        with pytest.raises(ValueError, match="either `dataset_name` or `datasets`"):
            load_data(arguments, mixed)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"problem_levels": [1, 13]}, "within 1 to 12"), ({"problem_forms": ["verse"]}, "`forms` has 'verse'")],
)
def test_problems_that_there_are_not(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_data(DataArguments(dataset_name="word_problems", **settings))


def test_missing_rows_splits_and_columns_are_named(questions_file: Path) -> None:
    file = dict(dataset_name="json", data_files=[str(questions_file)])
    with pytest.raises(ValueError, match="leaves nothing of 16"):
        load_data(DataArguments(**file, held_out_rows=16, **COLUMNS))
    with pytest.raises(ValueError, match=r"no split `test`, only train: .* `held_out_rows`"):
        load_data(DataArguments(**file, **COLUMNS), evaluate=True)
    with pytest.raises(ValueError, match="no column `solution`; its columns are a, b"):
        to_turns(Dataset.from_dict({"a": ["x"], "b": ["y"]}), "a", "solution")
    with pytest.raises(ValueError, match="no column `instruction`"):
        load_data(DataArguments(**file, prompt_template="alpaca"))


def test_data_without_a_response_says_what_it_has_and_what_maps_it(
    questions_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"columns are question, answer.*`prompt_column`.*`prompt_template: alpaca`"):
        load_data(DataArguments(dataset_name="json", data_files=[str(questions_file)]))
    with pytest.raises(ValueError, match="`train` data have no response: their columns are prompt"):
        check_columns(Dataset.from_dict({"prompt": ["What?"]}), "text", "train")
    splits = DatasetDict(train=Dataset.from_dict({"text": ["One."]}), test=Dataset.from_dict({"text": []}))
    monkeypatch.setattr("trainers.data.load_dataset", lambda *_, **__: splits)
    with pytest.raises(ValueError, match="`eval` data have no rows"):
        load_data(DataArguments(dataset_name="empty"), evaluate=True)


@pytest.mark.parametrize(
    ("column", "good", "empty"),
    [
        ("completion", "Two.", " \n"),
        ("completion", [{"role": "assistant", "content": "Two."}], [{"role": "assistant", "content": ""}]),
        ("messages", [{"role": "assistant", "content": "Two."}], [{"role": "assistant", "content": " "}]),
        ("conversations", [{"from": "gpt", "value": "Two."}], [{"from": "gpt", "value": ""}]),
        ("text", "A text.", ""),
        ("text", "A text.", None),
    ],
)
def test_an_empty_response_is_named_by_its_row(column: str, good: Any, empty: Any) -> None:
    extra = {"prompt": ["One and one?"] * 4} if column == "completion" else {}
    rows = Dataset.from_dict({column: [good, good, empty, good], **extra})
    with pytest.raises(ValueError, match=f"Row 2 of the `train` data has an empty `{column}`"):
        check_columns(rows, "text", "train")
    check_columns(rows.select([0, 1, 3]), "text", "train")


def test_empty_responses_of_mapped_columns_and_of_evaluation_rows_are_found(tmp_path: Path) -> None:
    rows = [{"question": "One and one?", "answer": "Two."}] * 3 + [{"question": "Two and two?", "answer": ""}]
    with pytest.raises(ValueError, match="Row 3 of the `train` data"):
        load_data(from_file(tmp_path / "a.jsonl", rows, **COLUMNS))
    with pytest.raises(ValueError, match="Row 0 of the `eval` data"):
        load_data(from_file(tmp_path / "b.jsonl", rows, held_out_rows=1, **COLUMNS), evaluate=True)


def test_hub_names_go_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fake(*words: Any, **options: Any) -> DatasetDict:
        asked.append((words, options))
        return DatasetDict(train=Dataset.from_list(ALPACA))

    monkeypatch.setattr("trainers.data.load_dataset", fake)
    assert fake is not load_dataset
    assert len(load_data(DataArguments(dataset_name="tatsu-lab/alpaca", prompt_template="alpaca"))[0]) == 2
    assert asked == [(("tatsu-lab/alpaca", None), {"data_files": None, "streaming": False})]
