"""Answering a task: the same whatever the batches, the processes and the interruptions, and scored with errors."""

import copy
import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator

from conv_dlm.answering.answers import Answer, answer, text_of
from conv_dlm.answering.batching import row_generator
from conv_dlm.answering.prompting import Prompter
from conv_dlm.evaluation.evaluate import Task, answer_task, pending, wait_for_all, write_results
from conv_dlm.evaluation.processes import Processes
from conv_dlm.evaluation.respondent import Respondent, decoding_fields, next_token_predictor
from conv_dlm.evaluation.sample_folder import SampleFolder

CONVERSATIONS = [["one"], ["a second, longer", "why?", "and?"], ["3"], ["four, likewise"], ["five", "or six?"]]
TASK = Task("test", [{"number": index} for index in range(5)], CONVERSATIONS)


def evaluate(
    path: Path, respondent: Respondent, task: Task = TASK, batch_size: int = 2, seed: int = 0, processes: int = 1
) -> SampleFolder:
    """The whole run, one process after the other, the last one first."""
    for rank in reversed(range(processes)):
        folder = SampleFolder(path, {"seed": seed}, rank)
        batches = pending(task, folder, Processes(rank, processes), batch_size)
        answer_task(task, respondent, folder, batches, seed=seed, run={"process": rank})
    return folder


def outcome(folder: SampleFolder, task: Task = TASK) -> list[dict[str, Any]]:
    """The lines of samples.jsonl, but for times."""
    write_results(task, folder)
    lines = [json.loads(line) for line in (folder.path / "samples.jsonl").read_text("utf-8").splitlines()]
    for line in lines:
        for turn in line["turns"]:
            assert turn.pop("seconds") > 0
    return lines


@pytest.fixture(scope="module")
def respondent(make_denoiser: Callable[..., Respondent]) -> Respondent:
    return make_denoiser()


@pytest.fixture(scope="module")
def whole(respondent: Respondent, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What an uninterrupted run by one process ends with."""
    return outcome(evaluate(tmp_path_factory.mktemp("whole"), respondent))


@pytest.fixture
def asked() -> list[list[str]]:
    """What the stand-in was asked, batch by batch."""
    return []


@pytest.fixture
def stand_in(tiny_tokenizer: Any, asked: list[list[str]]) -> Respondent:
    """Answers with as many bytes as the prompt's length decides, in half a second."""

    def ask(prompts: Sequence[str], generators: Sequence[Generator]) -> list[Answer]:
        asked.append(list(prompts))
        counts = [len(prompt) % 7 for prompt in prompts]
        return [Answer([30] * count, count > 2, [0] * 8, 4, 0.5) for count in counts]

    return Respondent(None, tiny_tokenizer, Prompter(tiny_tokenizer), ask, {})


@pytest.mark.parametrize(("batch_size", "processes"), [(1, 1), (5, 1), (9, 1), (2, 2), (1, 3), (2, 7)])
def test_answers_depend_neither_on_batches_nor_on_processes(
    tmp_path: Path, respondent: Respondent, whole: list[dict[str, Any]], batch_size: int, processes: int
) -> None:
    assert outcome(evaluate(tmp_path, respondent, batch_size=batch_size, processes=processes)) == whole


def test_samples_are_in_the_order_of_the_rows(whole: list[dict[str, Any]]) -> None:
    assert [line["index"] for line in whole] == list(range(5)) and [line["row"] for line in whole] == TASK.rows
    assert [len(line["turns"]) for line in whole] == [1, 3, 1, 1, 2]
    texts = [turn["text"] for line in whole for turn in line["turns"]]
    assert len(set(texts)) == len(texts) == 8
    assert list(whole[0]["turns"][0]) == ["text", "ids", "ended", "forwards"]


def test_the_seed_changes_the_answers(tmp_path: Path, respondent: Respondent, whole: list[dict[str, Any]]) -> None:
    other = outcome(evaluate(tmp_path, respondent, seed=1))
    assert all(mine["turns"] != theirs["turns"] for mine, theirs in zip(whole, other, strict=True))


def test_the_first_turn_is_what_a_single_prompt_gets(
    tiny_llada: Any, tiny_tokenizer: Any, whole: list[dict[str, Any]]
) -> None:
    prompt = Prompter(tiny_tokenizer)([{"role": "user", "content": "a second, longer"}])
    (first,) = answer(tiny_llada, tiny_tokenizer, [prompt], [row_generator(0, 1)], steps=3, max_new_tokens=8)
    assert whole[1]["turns"][0]["text"] == text_of(tiny_tokenizer, first.ids)


@pytest.mark.parametrize("number", range(1, 5))
def test_an_interrupted_run_goes_on(
    tmp_path: Path, respondent: Respondent, whole: list[dict[str, Any]], number: int
) -> None:
    """Ctrl-C while the `number`-th batch is denoised; the same command may come with another batch size."""
    calls = iter(range(1, 99))

    def interrupted(prompts: Sequence[str], generators: Sequence[Generator]) -> list[Answer]:
        if next(calls) == number:
            raise KeyboardInterrupt
        return respondent.ask(prompts, generators)

    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path, replace(respondent, ask=interrupted), batch_size=2)
    before = SampleFolder(tmp_path, {"seed": 0}).samples()
    folder = evaluate(tmp_path, respondent, batch_size=3)
    assert folder.samples()[: len(before)] == before
    assert outcome(folder) == whole


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.55, 0.99])
def test_a_crash_in_the_middle_of_a_line(
    tmp_path: Path, respondent: Respondent, whole: list[dict[str, Any]], cut: float
) -> None:
    evaluate(tmp_path, respondent)
    file = tmp_path / "samples-0.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[: int(cut * len(content))])
    assert outcome(evaluate(tmp_path, respondent)) == whole


def test_what_is_answered_is_not_asked_again(tmp_path: Path, stand_in: Respondent, asked: list[list[str]]) -> None:
    folder = evaluate(tmp_path, stand_in)
    content = (tmp_path / "samples-0.jsonl").read_bytes()
    asked.clear()
    assert pending(TASK, folder, Processes(), 2) == []
    evaluate(tmp_path, stand_in, processes=2)
    assert asked == [] and (tmp_path / "samples-0.jsonl").read_bytes() == content
    assert not (tmp_path / "samples-1.jsonl").exists()


def test_the_longest_prompts_come_first(tmp_path: Path, stand_in: Respondent) -> None:
    folder = SampleFolder(tmp_path, {})
    assert pending(TASK, folder, Processes(), 2) == [[1, 3], [4, 0], [2]]
    assert pending(TASK, folder, Processes(1, 2), 2) == [[1, 3]]


def test_every_turn_sees_what_was_said_before(tmp_path: Path, stand_in: Respondent, asked: list[list[str]]) -> None:
    evaluate(tmp_path, stand_in, batch_size=5)
    user, assistant = "<|start|>user\n{}<|end|>\n", "<|start|>assistant\n"
    assert [len(batch) for batch in asked] == [5, 2, 1]
    first = user.format("a second, longer") + assistant
    said = [stand_in.tokenizer.decode([30] * (len(prompt) % 7)) for prompt in (first, asked[1][0])]
    second = first + said[0] + "<|end|>\n" + user.format("why?") + assistant
    assert asked[0][0] == first and asked[1][0] == second
    assert asked[2] == [second + said[1] + "<|end|>\n" + user.format("and?") + assistant]
    assert all(said)


def test_every_turn_draws_anew(tmp_path: Path, stand_in: Respondent) -> None:
    seeds: list[int] = []

    def ask(prompts: Sequence[str], generators: Sequence[Generator]) -> list[Answer]:
        seeds.extend(generator.initial_seed() for generator in generators)
        return stand_in.ask(prompts, generators)

    evaluate(tmp_path, replace(stand_in, ask=ask))
    assert len(set(seeds)) == len(seeds) == 8
    assert {row_generator(0, index).initial_seed() for index in range(5)} <= set(seeds)


def test_figures_with_their_errors(tmp_path: Path, stand_in: Respondent) -> None:
    task = Task("test", TASK.rows, CONVERSATIONS, lambda row, texts: {"even": 1.0 - row["number"] % 2})
    figures = write_results(task, evaluate(tmp_path, stand_in, task))
    turns = [json.loads(line)["turns"] for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    tokens = [sum(len(turn["ids"]) for turn in its) for its in turns]
    count = [len(its) for its in turns]
    assert sum(count) == 8 and len(set(tokens)) > 1

    def ratio(parts: list[float], wholes: list[float]) -> list[float]:
        """The textbook's (Cochran 6.13), rows being the sample."""
        value = sum(parts) / sum(wholes)
        squares = sum((part - value * whole) ** 2 for part, whole in zip(parts, wholes, strict=True))
        mean = sum(wholes) / len(wholes)
        return [value, math.sqrt(squares / (len(parts) - 1) / len(parts)) / mean]

    assert figures["even"] == pytest.approx(ratio([1.0, 0, 1, 0, 1], [1.0] * 5))
    assert figures["tokens"] == pytest.approx(ratio(tokens, count))
    assert figures["tokens_per_second"] == pytest.approx(ratio(tokens, [0.5 * number for number in count]))
    assert figures["tokens_per_forward"] == pytest.approx(ratio(tokens, [4 * number for number in count]))
    ended = [sum(turn["ended"] for turn in its) for its in turns]
    assert figures["ended"] == pytest.approx(ratio(ended, count)) and 0 < sum(ended) < 8
    empty = [sum(not turn["ids"] for turn in its) for its in turns]
    assert figures["empty"] == pytest.approx(ratio(empty, count))
    assert figures["forwards"] == [4.0, 0.0] and figures["seconds"] == [0.5, 0.0]
    for name, figure in figures.items():
        assert figure is not None and len(figure) == 2 and figure[1] is not None, name


def test_a_single_row_has_no_error(tmp_path: Path, stand_in: Respondent) -> None:
    task = Task("test", [{}], [["one"]])
    assert write_results(task, evaluate(tmp_path, stand_in, task))["forwards"] == [4.0, None]


def test_the_results_say_where_they_are_from(tmp_path: Path, stand_in: Respondent) -> None:
    files = {"more.txt": "of the task"}
    task = replace(TASK, files=lambda rows, texts: files | {"last.txt": texts[4][-1]})
    folder = evaluate(tmp_path, stand_in, task, processes=2)
    figures = write_results(task, folder)
    result = json.loads((tmp_path / "results.json").read_text())
    assert result == {
        "task": "test",
        "n": 5,
        "figures": figures,
        "settings": {"seed": 0},
        "runs": [{"process": 0}, {"process": 1}],
    }
    assert (tmp_path / "more.txt").read_text() == "of the task"
    assert (tmp_path / "last.txt").read_text() == outcome(folder, task)[4]["turns"][-1]["text"]


@pytest.mark.parametrize(("batch_size", "named"), [(1, "row 1: "), (5, "one of the rows 0, 1, 2, 3, 4: ")])
def test_a_prompt_that_can_not_be_answered_is_named(
    tmp_path: Path, respondent: Respondent, batch_size: int, named: str
) -> None:
    task = replace(TASK, conversations=[["x" * 300] if index == 1 else ["x"] for index in range(5)])
    with pytest.raises(ValueError, match="the model's is 256") as error:
        evaluate(tmp_path, respondent, task, batch_size)
    assert str(error.value).startswith(named)
    assert SampleFolder(tmp_path, {"seed": 0}).samples() == []  # the longest came first


def test_what_does_not_fit_into_memory(tmp_path: Path, stand_in: Respondent, asked: list[list[str]]) -> None:
    """The answers that are there are kept, and the rest may come in smaller batches."""

    def ask(prompts: Sequence[str], generators: Sequence[Generator]) -> list[Answer]:
        if asked:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return stand_in.ask(prompts, generators)

    task = replace(TASK, conversations=[["x"]] * 5)
    with pytest.raises(ValueError, match=r"too little memory for 2 rows at a time; .* smaller `batch_size` resumes"):
        evaluate(tmp_path, replace(stand_in, ask=ask), task, batch_size=2)
    assert evaluate(tmp_path, stand_in, task, batch_size=1).keys("index") == {(index,) for index in range(5)}
    assert [len(batch) for batch in asked] == [2, 1, 1, 1]


def test_the_first_process_waits_for_the_others(tmp_path: Path) -> None:
    task = Task("test", [{}, {}], [["one"], ["two"]])
    folder, other = (SampleFolder(tmp_path, {}, rank) for rank in range(2))
    folder.add([{"run": {}}, {"index": 0}])
    waiting = threading.Thread(target=wait_for_all, args=(task, folder, 0.01), daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    other.add([{"index": 1}])
    waiting.join(60)
    assert not waiting.is_alive()


def test_batches_count_as_done_when_they_are_on_the_disk(tmp_path: Path, stand_in: Respondent) -> None:
    """What shows progress asks for the next batch after the one before is kept."""
    folder, seen = SampleFolder(tmp_path, {}), []

    def watched() -> Iterator[list[int]]:
        for batch in ([0], [2, 4]):
            yield batch
            seen.append(folder.keys("index"))

    answer_task(TASK, stand_in, folder, watched(), seed=0, run={})
    assert seen == [{(0,)}, {(0,), (2,), (4,)}]


def test_other_rows_have_another_fingerprint() -> None:
    others = [replace(TASK, rows=[{}] * 5), replace(TASK, conversations=[["one"]] * 5), replace(TASK, name="other")]
    assert TASK.fingerprint == others[2].fingerprint
    assert len({one.fingerprint["sha256"] for one in (TASK, *others)}) == 3 and TASK.fingerprint["count"] == 5


def test_what_an_answer_depends_on_is_told(make_denoiser: Callable[..., Respondent], tiny_llama: Any) -> None:
    decoding = make_denoiser(decode_type="topk", steps=5).decoding
    assert set(decoding) == set(decoding_fields())
    chosen = {"decode_type": "topk", "steps": 5, "max_new_tokens": 8, "top_k": 1, "do_sample": True, "temperature": 1.0}
    assert chosen.items() <= decoding.items()
    with pytest.raises(ValueError, match="`kernel_size`=5 has no effect"):
        make_denoiser(decode_type="topk", kernel_size=5)
    tokenizer = make_denoiser().tokenizer
    one = next_token_predictor(tiny_llama, tokenizer, Prompter(tokenizer))
    assert one.decoding == {"autoregressive": True, "max_new_tokens": 128, "top_p": 0.95}


def test_every_kind_of_model_can_be_asked(tmp_path: Path, tiny_llama: Any, tiny_tokenizer: Any) -> None:
    one = next_token_predictor(tiny_llama, tiny_tokenizer, Prompter(tiny_tokenizer), max_new_tokens=6)
    by_one = outcome(evaluate(tmp_path / "1", one, batch_size=1))
    assert outcome(evaluate(tmp_path / "5", one, batch_size=5)) == by_one
    assert all(len(turn["ids"]) <= 6 for line in by_one for turn in line["turns"])


@pytest.mark.parametrize("autoregressive", [False, True])
def test_the_tokenizer_adds_its_special_tokens_where_no_template_does(
    make_denoiser: Callable[..., Respondent], tiny_llama: Any, untemplated: Any, autoregressive: bool
) -> None:
    from tokenizers.processors import TemplateProcessing

    with_bos = copy.deepcopy(untemplated)
    with_bos.backend_tokenizer.post_processor = TemplateProcessing("<|start|> $A", special_tokens=[("<|start|>", 1)])
    templated = copy.deepcopy(with_bos)
    templated.chat_template = "{{ messages[0]['content'] }}"
    beginning = copy.deepcopy(templated)
    beginning.chat_template = "<|start|>{{ messages[0]['content'] }}"

    def ask(tokenizer: Any, prompt: str) -> list[int]:
        one = make_denoiser(tokenizer)
        if autoregressive:
            one = next_token_predictor(tiny_llama, tokenizer, Prompter(tokenizer), max_new_tokens=8)
        return one.ask([one.prompter([{"role": "user", "content": prompt}])], [row_generator(0)])[0].ids

    assert ask(with_bos, "one") == ask(beginning, "one") == ask(untemplated, "<|start|>one")
    assert ask(with_bos, "one") != ask(untemplated, "one") == ask(templated, "one")


def test_several_turns_need_a_template(untemplated: Any) -> None:
    with pytest.raises(ValueError, match="Several turns need a chat template, but the tokenizer has none"):
        Prompter(untemplated).check_turns(2)
    Prompter(untemplated).check_turns(1)


def test_a_template_that_refuses_the_messages(tiny_tokenizer: Any, untemplated: Any) -> None:
    untemplated.chat_template = "{{ raise_exception('no system message, please') }}"
    with pytest.raises(ValueError, match="The chat template refuses the messages: no system message, please"):
        Prompter(untemplated, system="Be brief.")([{"role": "user", "content": "x"}])
