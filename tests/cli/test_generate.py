"""`conv-dlm generate`: text for one prompt, JSON lines for many, resumed after an interruption."""

import copy
import io
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conv_dlm.cli import session as session_module
from conv_dlm.cli.options import option_settings

PROMPTS = ["one", "a second and longer prompt", "three", "four", "the fifth prompt"]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(PROMPTS) + "\n")
    return path


def test_one_prompt_gives_plain_text_and_a_closing_line(generate) -> None:
    outcome = generate("hello")
    assert outcome.code == 0
    assert "\x1b" not in outcome.out and outcome.out.endswith("\n")
    closing = re.fullmatch(
        r"(\d+) tokens in [\d.]+ s \([\d.]+ tokens/s\), (\d+) forwards, ([\d.]+) tokens per forward\n", outcome.err
    )
    assert closing
    assert 1 <= int(closing[2]) <= 5
    assert float(closing[3]) == pytest.approx(int(closing[1]) / int(closing[2]), abs=0.01)


def test_same_text_as_in_a_row(generate, prompts: Path, tmp_path: Path) -> None:
    """The text that is streamed is the text that is written."""
    generate("--input", prompts, "--output", tmp_path / "out.jsonl")
    assert generate(PROMPTS[0]).out == rows(tmp_path / "out.jsonl")[0]["text"] + "\n"


def test_rows(generate, prompts: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    output = tmp_path / "out.jsonl"
    outcome = generate("--input", prompts, "--output", output, "--batch-size", 2, "--decode-type", "topk")
    assert outcome.code == 0 and outcome.out == ""
    assert outcome.err.startswith("5 prompts: ")
    for index, row in enumerate(rows(output)):
        assert list(row) == ["index", "prompt", "text", "forwards", "tokens", "seconds", "settings"]
        assert (row["index"], row["prompt"]) == (index, PROMPTS[index])
        assert 0 <= row["tokens"] <= 12 and 1 <= row["forwards"] <= 5 and row["seconds"] > 0
        settings = row["settings"]
        assert settings["model"] == str(tiny_checkpoint) and settings["dtype"] == "float32"
        assert (settings["steps"], settings["decode_type"], settings["seed"]) == (4, "topk", 0)
        assert settings["top_k"] == 1  # what was not given is told too


def test_text_depends_neither_on_batch_size_nor_on_where_a_run_began(
    generate, prompts: Path, tmp_path: Path
) -> None:
    texts = []
    for batch_size in (1, 2, 5):
        output = tmp_path / f"{batch_size}.jsonl"
        generate("--input", prompts, "--output", output, "--batch-size", batch_size)
        texts.append([row["text"] for row in rows(output)])
    lines = (tmp_path / "1.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "again.jsonl").write_text("".join(lines[:3]))
    generate("--input", prompts, "--output", tmp_path / "again.jsonl", "--batch-size", 2)
    texts.append([row["text"] for row in rows(tmp_path / "again.jsonl")])
    assert texts == [texts[0]] * 4
    assert len(set(texts[0])) == 5


def test_seed_changes_the_text(generate) -> None:
    first, again, other = (generate("hello", "--seed", seed).out for seed in (0, 0, 1))
    assert first == again != other


def test_equal_prompts_have_seeds_of_their_own(generate, prompts: Path, tmp_path: Path) -> None:
    prompts.write_text("same\nsame\n")
    generate("--input", prompts, "--output", tmp_path / "out.jsonl")
    first, second = rows(tmp_path / "out.jsonl")
    assert first["text"] != second["text"]


def test_a_batch_shares_its_time(generate, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((100.0, 110.0))
    monkeypatch.setattr(session_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    outcome = generate("--input", prompts, "--output", tmp_path / "out.jsonl", "--batch-size", 5)
    assert [row["seconds"] for row in rows(tmp_path / "out.jsonl")] == [2.0] * 5
    assert " tokens in 10.0 s " in outcome.err


def test_special_tokens_are_not_added_to_a_template_that_has_them(
    generate, tiny_checkpoint: Path, tmp_path: Path, tiny_tokenizer
) -> None:
    from tokenizers.processors import TemplateProcessing

    shutil.copytree(tiny_checkpoint, tmp_path / "model")
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<|start|> $A", special_tokens=[("<|start|>", 1)])
    tokenizer.save_pretrained(tmp_path / "model")
    models = (tmp_path / "model", tiny_checkpoint)
    with_bos, without = (generate("x", "--model", model).out for model in models)
    assert with_bos == without
    with_bos, without = (generate("x", "--raw", "--model", model).out for model in models)
    assert with_bos != without


def test_a_reader_that_goes_away(generate, prompts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def fileno(self) -> int:
            return descriptor

    descriptor = os.open(os.devnull, os.O_WRONLY)
    monkeypatch.setattr("sys.stdout", Closed())
    outcome = generate("--input", prompts)
    os.close(descriptor)
    assert (outcome.code, outcome.err) == (141, "")


def test_chat_template_unless_raw(generate, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    encode = session_module.Session._encode

    def watched(self, prompts):
        seen.extend(prompts)
        return encode(self, prompts)

    monkeypatch.setattr(session_module.Session, "_encode", watched)
    generate("hello")
    generate("hello", "--system", "be brief")
    generate("hello", "--raw")
    assert seen == [
        "<|start|>user\nhello<|end|>\n<|start|>assistant\n",
        "<|start|>system\nbe brief<|end|>\n<|start|>user\nhello<|end|>\n<|start|>assistant\n",
        "hello",
    ]


def test_masks_in_the_prompt_are_filled(generate, prompts: Path, tmp_path: Path) -> None:
    prompts.write_text("it <|mask|><|mask|> so\n")
    options = ("--raw", "--max-new-tokens", 0)
    generate("--input", prompts, "--output", tmp_path / "out.jsonl", *options)
    (row,) = rows(tmp_path / "out.jsonl")
    assert row["text"].startswith("it ") and row["text"].endswith(" so")
    assert generate("it <|mask|><|mask|> so", *options).out == row["text"] + "\n"


@pytest.mark.parametrize("field", ["prompt", "question"])
def test_json_lines_in_and_out(generate, tmp_path: Path, field: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({field: prompt, "more": 1}) + "\n\n" for prompt in ("one", "zwei ü")))
    outcome = generate("--input", source, "--field", field)
    assert [json.loads(line)["prompt"] for line in outcome.out.splitlines()] == ["one", "zwei ü"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("one\ntwo\n", ["one", "two"]), ('{"prompt": "one"}\n{"prompt": "two"}\n', ["one", "two"])],
)
def test_input_from_standard_input(generate, monkeypatch, text: str, expected: list[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert [json.loads(line)["prompt"] for line in generate("--input", "-").out.splitlines()] == expected


def test_a_piped_text_is_one_prompt(generate, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = generate("two\nlines").out
    monkeypatch.setattr("sys.stdin", io.StringIO("two\nlines\n"))
    assert generate().out == expected


def test_interrupted_run_goes_on(generate, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out.jsonl"
    answer, calls = session_module.Session.answer, []

    def interrupted(self, texts, indices, streamer=None):
        calls.append(list(indices))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answer(self, texts, indices, streamer)

    monkeypatch.setattr(session_module.Session, "answer", interrupted)
    command = ("--input", prompts, "--output", output, "--batch-size", 2)
    outcome = generate(*command)
    assert outcome.code == 130
    assert outcome.err == f"interrupted: 2 of 5 rows are in {output}; the same command resumes from there\n"
    first = output.read_bytes()
    assert len(rows(output)) == 2

    assert generate(*command).code == 0
    assert calls[2:] == [[2, 3], [4]]
    assert [row["index"] for row in rows(output)] == [0, 1, 2, 3, 4]
    assert output.read_bytes().startswith(first)

    finished = output.read_bytes()
    outcome = generate(*command)
    assert (outcome.code, outcome.err) == (0, f"all 5 prompts are answered in {output} already\n")
    assert output.read_bytes() == finished


def test_a_row_that_was_cut_short_is_written_again(generate, prompts: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    generate("--input", prompts, "--output", output)
    whole = [row | {"seconds": 0} for row in rows(output)]
    content = output.read_bytes()
    first = content.index(b"\n") + 1
    for length in (first // 2, first - 1, first + 1, first + 5, len(content) // 2, len(content) - 1):
        output.write_bytes(content[:length])
        assert generate("--input", prompts, "--output", output).code == 0
        assert [row | {"seconds": 0} for row in rows(output)] == whole


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, ("--seed", 1), "in line 1 differ: seed (0 there, 1 here)"),
        (None, ("--steps", 3), "in line 1 differ: steps (4 there, 3 here)"),
        (None, ("--raw",), "in line 1 differ: raw (False there, True here)"),
        (None, ("--input",), "line 1 answers another prompt 0"),
        (b"my notes", (), "its last line is no row of it"),
        (b"my notes\n", (), "line 1 is no row of it"),
        (b"{", (), "its last line is no row of it"),  # too little to tell whose it is
        (b'{"index": 0, "note": "three hours of my own work', (), "its last line is no row of it"),
        (b'{"index": 7, "note": "my own work, whole"}', (), "line 1 is no row of it"),
        (b'{"index": 0, "prompt": 5, "settings": [1]}\n', (), "line 1 is no row of it"),
        (b'{"index": "0", "prompt": 5, "settings": {}}\n', (), "line 1 is no row of it"),
        (b"[" * 100_000 + b"\n", (), "line 1 is no row of it"),
        (b'{"index": 0}\n', (), "line 1 is no row of it"),
        (b"[1]\n", (), "line 1 is no row of it"),
    ],
)
def test_another_runs_file_is_refused_and_kept(
    generate, prompts: Path, tmp_path: Path, content: bytes | None, options: tuple, message: str
) -> None:
    output = tmp_path / "out.jsonl"
    if content is None:
        generate("--input", prompts, "--output", output)
    else:
        output.write_bytes(content)
    before = output.read_bytes()
    if options == ("--input",):
        prompts.write_text("other\n")
        options = ()
    outcome = generate("--input", prompts, "--output", output, *options)
    assert outcome.code == 2
    assert message in outcome.err and outcome.err.count("\n") == 1 and "--output" in outcome.err
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("x", "--decode-type", "con"), "did you mean 'conv'"),
        (("x", "--steps", "0"), "`steps`=0 must be a whole number"),
        (("x", "--steps", "few"), "argument --steps: invalid int value: 'few'"),
        (("x", "--decode-type", "llada", "--kernel-size", "5"), "`kernel_size`=5 has no effect"),
        (("x", "--input", "file.txt"), "not both"),
        (("--input", "no/such/file.txt"), "No such file or directory: 'no/such/file.txt'"),
        (("x", "--batch-size", "0"), "`--batch-size`=0"),
        (("x", "--model", "no/such/model"), "`model`='no/such/model': there is no such folder"),
        (("x", "--model", "tests"), "is a folder without a model"),
        (("x", "--model", "no-such/model"), "no-such/model cannot be loaded"),
        (("x", "--device", "toaster"), "`device`='toaster' cannot be used here"),
        (("x", "--raw", "--system", "be brief"), "`--raw` was given"),
        (("", "--raw"), "A prompt is empty"),
        (("x" * 300,), "the model's is 256"),
        (("x", "--stepz", "4"), "unrecognized arguments: --stepz"),
        (("x", "--output", "no/such/folder/out.jsonl"), "No such file or directory"),
    ],
)
def test_a_mistake_is_one_line(generate, words: tuple[str, ...], message: str) -> None:
    outcome = generate(*words)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1 and outcome.err.startswith("conv-dlm")
    assert outcome.out == ""


def test_an_error_among_many_names_the_prompt(generate, prompts: Path, tmp_path: Path) -> None:
    prompts.write_text("one\n" + "x" * 300 + "\n")
    outcome = generate("--input", prompts, "--output", tmp_path / "out.jsonl")
    assert outcome.code == 2 and "error: prompt 1: " in outcome.err
    assert len(rows(tmp_path / "out.jsonl")) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 3: not JSON"),
        ("[1]", "line 3: a JSON object is needed, not list"),
        ('{"question": "x"}', "line 3: no text in field 'prompt'; name another of ['question'] with --field"),
        ('{"prompt": 3}', "line 3: no text in field 'prompt'"),
    ],
)
def test_malformed_line_is_named(generate, tmp_path: Path, line: str, message: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "fine"}\n\n' + line + "\n")
    outcome = generate("--input", source)
    assert outcome.code == 2 and message in outcome.err and str(source) in outcome.err


def test_an_empty_prompt_in_a_batch_is_refused(generate, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "one"}\n{"prompt": ""}\n')
    outcome = generate("--input", tmp_path / "in.jsonl", "--raw", "--batch-size", 2)
    assert outcome.code == 2 and "A prompt is empty" in outcome.err


def test_empty_and_binary_input(generate, tmp_path: Path) -> None:
    for content, message in ((b"\n \n", "holds no prompts"), (b"\xff\xfe", "is not UTF-8 text")):
        (tmp_path / "in.txt").write_bytes(content)
        outcome = generate("--input", tmp_path / "in.txt")
        assert outcome.code == 2 and message in outcome.err


def test_quantized(generate, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    generate("x", "--output", tmp_path / "out.jsonl", "--quantize", "8bit")
    (row,) = rows(tmp_path / "out.jsonl")
    assert row["settings"]["quantize"] == "8bit" and row["text"]


def test_tokenizer_from_elsewhere(run, tiny_llada, tiny_checkpoint: Path, tmp_path: Path) -> None:
    tiny_llada.save_pretrained(tmp_path / "model")
    common = ("--steps", 2, "--max-new-tokens", 8)
    outcome = run("generate", "x", "--model", tmp_path / "model", "--tokenizer", tiny_checkpoint, *common)
    assert outcome.out == run("generate", "x", "--model", tiny_checkpoint, *common).out
    assert "cannot be loaded" in run("generate", "x", "--model", tmp_path / "model", *common).err


def test_a_model_that_does_not_denoise(run, tmp_path: Path, tiny_tokenizer) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=260)).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    outcome = run("generate", "x", "--model", tmp_path)
    assert outcome.code == 2 and "is a 'gpt2' model, which does not denoise" in outcome.err


def test_what_is_not_given_is_left_to_the_model(run, generate, tiny_llada, tiny_tokenizer, tmp_path: Path) -> None:
    model = copy.deepcopy(tiny_llada)
    model.generation_config.update(steps=3, max_new_tokens=7, decode_type="llada")
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    run("generate", "x", "--model", tmp_path, "--output", tmp_path / "out.jsonl")
    (row,) = rows(tmp_path / "out.jsonl")
    assert [row["settings"][name] for name in ("steps", "max_new_tokens", "decode_type")] == [3, 7, "llada"]


def test_every_field_of_the_generation_config_has_an_option() -> None:
    from conv_dlm.generation.configuration import all_settings

    assert set(all_settings()) - {"output_history"} <= set(option_settings())


def test_help_teaches(run) -> None:
    from conv_dlm import DECODE_TYPES

    outcome = run("generate", "--help")
    assert outcome.code == 0
    assert all(name in outcome.out and kind.summary in outcome.out for name, kind in DECODE_TYPES.items())
    assert "conv-dlm generate --input questions.txt --output answers.jsonl" in outcome.out
    assert "generate" in run("--help").out and "chat" in run("--help").out
    outcome = run()
    assert outcome.code == 2 and "required: COMMAND" in outcome.err


HALF = '{"prompt": "half \\ud83d of a pair, and \\u2028 a break"}'


def test_half_a_surrogate_pair_is_answered_and_kept(generate, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(HALF + "\n")
    assert generate("--input", source, "--output", output).code == 0
    assert len(output.read_text(encoding="utf-8").splitlines()) == 1
    assert rows(output)[0]["prompt"] == json.loads(HALF)["prompt"]
    assert "answered in" in generate("--input", source, "--output", output).err


@pytest.mark.parametrize("words", [[], ["--input", "-"]])
def test_latin_1_on_standard_input(generate, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("grün".encode("latin-1")), encoding="utf-8"))
    outcome = generate(*words)
    assert outcome.code == 2 and "is not UTF-8 text" in outcome.err and "iconv" in outcome.err


def test_latin_1_as_an_argument(generate) -> None:
    outcome = generate(b"gr\xfcn".decode("utf-8", "surrogateescape"))
    assert outcome.code == 2 and "The prompt is not UTF-8 text" in outcome.err


@pytest.mark.parametrize("told", [False, True])
def test_a_stream_that_is_not_utf_8(generate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: bool) -> None:
    """A pipe gets UTF-8; one that is said to be something else gets what it can hold, and JSON loses nothing."""
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    if told:
        monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"prompt": "€ 😀 \u2028"}) + "\n")
    for words in (["😀"], ["--input", source]):
        written = io.BytesIO()
        stream = io.TextIOWrapper(written, encoding="cp1252", write_through=True)
        monkeypatch.setattr("sys.stdout", stream)
        assert generate(*words).code == 0
        stream.flush()
        text = written.getvalue().decode("cp1252" if told else "utf-8")
        assert text.strip() and "Traceback" not in text
    assert json.loads(text)["prompt"] == "€ 😀 \u2028"


@pytest.mark.parametrize("option", ["--input", "--json-schema"])
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full"])
def test_what_has_no_end_is_not_read(generate, option: str, device: str) -> None:
    outcome = generate(*([] if option == "--input" else ["hello"]), option, device)
    assert outcome.code == 2 and f"{device} is a device" in outcome.err


def test_an_output_that_is_no_file(generate, prompts: Path, tmp_path: Path) -> None:
    outcome = generate("--input", prompts, "--output", "/dev/full")
    assert outcome.code == 2 and "No space left" in outcome.err
    assert generate("--input", prompts, "--output", "/dev/null").code == 0
    assert not Path("/dev/null").is_file()
    outcome = generate("--input", prompts, "--output", tmp_path)
    assert outcome.code == 2 and "is a folder" in outcome.err


def test_a_special_token_in_a_prompt_is_text(generate, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    encode = session_module.Session._encode

    def watched(self, prompts):
        ids.append(encode(self, prompts)["input_ids"][0].tolist())
        return encode(self, prompts)

    monkeypatch.setattr(session_module.Session, "_encode", watched)
    generate("a <|mask|>")
    generate("a <|mask|>", "--max-new-tokens", 0)  # which asks for it to be filled
    assert [3 in row for row in ids] == [False, True]
