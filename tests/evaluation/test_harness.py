"""`conv_dlm` as a model of lm-evaluation-harness: requests one by one, whole tasks, caches, processes, the command."""

import json
import logging
import math
import sys
from functools import partialmethod
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("lm_eval")
import lm_eval
from lm_eval.api.model import CachingLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from conv_dlm.evaluation import harness as our_harness
from conv_dlm.evaluation.harness import ConvDLM
from conv_dlm.evaluation.likelihood import LikelihoodEstimator, Question
from conv_dlm.word_problems import problems
from tests.ranks import in_ranks, run_program
from tests.trainers.launching import ROOT

TASKS, ALL = "tests/evaluation/tasks", ("sums_generate", "sums_choice", "sums_rolling")
SOME = ALL[::2]
SHORT = {"steps": 4, "max_new_tokens": 12}


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)  # where the task files look for their data


@pytest.fixture
def make_lm(tiny_llada, tiny_tokenizer):
    return lambda **how: ConvDLM(tiny_llada, tokenizer=tiny_tokenizer, **({"mc_draws": 4} | how))


def texts_of(lm, *contexts, **gen_kwargs):
    return lm.generate_until([request(context, {"until": []} | gen_kwargs) for context in contexts])


def request(*args):
    return SimpleNamespace(args=args)


# --- generation ---


def test_texts_are_those_of_their_request(make_lm):
    """Whatever the batch, the order and the company; another seed, and a second answer, are others."""
    contexts = ["Two and two?", "A much longer question, about four apples?", "Six?"]
    texts = texts_of(make_lm(**SHORT), *contexts)
    assert len(set(texts)) == 3
    assert texts_of(make_lm(**SHORT, batch_size=3), *contexts[::-1]) == texts[::-1]
    assert texts_of(make_lm(**SHORT, batch_size=2), contexts[1], contexts[0]) == [texts[1], texts[0]]
    assert texts_of(make_lm(**SHORT, seed=1), contexts[0]) != texts[:1]
    same = request(contexts[0], {"until": []})
    first, second, third = make_lm(**SHORT, batch_size=2).generate_until([same, same, same])
    assert first == texts[0]
    assert len({first, second, third}) > 1


def test_decoding_is_said_by_model_args(make_lm, tiny_llada, tiny_tokenizer):
    options = {"decode_type": "llada", "steps": 3, "block_length": 4, "temperature": 0.0, "max_new_tokens": 12}
    (text,) = texts_of(make_lm(**options), "Two?", do_sample=True, temperature=0.9)
    ids = torch.tensor([tiny_tokenizer.encode("Two?")])
    response = tiny_llada.generate(ids, **options)[0, ids.shape[1] :]
    assert text == tiny_tokenizer.decode(response, skip_special_tokens=True)


def test_a_task_says_where_texts_stop(make_lm, caplog, monkeypatch):
    (whole,) = texts_of(make_lm(steps=4), "Two?", until=["never comes"], max_gen_toks=12)
    assert len(whole) > 4
    stop = whole[3:5]
    (cut,) = texts_of(make_lm(steps=4), "Two?", until=["x" * 9, stop], max_gen_toks=12)
    assert cut == whole[: whole.index(stop)]

    monkeypatch.setattr(logging.getLogger("lm_eval"), "propagate", True)
    lm = make_lm(steps=4, max_new_tokens=5)
    texts_of(lm, "Two?", max_gen_toks=99, num_beams=3)
    assert lm.counted["tokens"] <= 5
    assert "{'max_gen_toks': 99, 'num_beams': 3} are not used" in caplog.text


def test_a_special_token_stops_too(make_lm, tiny_tokenizer, monkeypatch):
    """Decoded, it would be gone, and what stands behind it would go on."""
    lm = make_lm(max_new_tokens=3)
    (prompt,), (a,), (b,) = (tiny_tokenizer.encode(letter) for letter in "xab")
    output = SimpleNamespace(
        sequences=torch.tensor([[prompt, a, tiny_tokenizer.bos_token_id, b]]),
        unmasked_at=torch.tensor([[-1, 0, 0, 0]]),
        forwards=torch.tensor([1]),
    )
    monkeypatch.setattr(lm.model, "generate", lambda **_: output)
    assert texts_of(lm, "x") == ["ab"]
    assert texts_of(lm, "x", until=[tiny_tokenizer.bos_token]) == ["a"]


def test_long_prompts_lose_their_beginning(make_lm):
    lm = make_lm(steps=2, max_new_tokens=6, max_length=20)
    long, same, _ = texts_of(lm, "z" * 50 + "the last 14 is", "the last 14 is", "")
    assert long == same
    assert lm.counted["shortened_prompts"] == 1
    with pytest.raises(ValueError, match="A response of 20 tokens leaves no room"):
        texts_of(make_lm(max_length=20, max_new_tokens=20), "Two?")


def test_chat_template(make_lm, tiny_tokenizer):
    """It writes the first token, which is not added again; a message that is begun already is gone on with."""
    lm = make_lm()
    begun = lm.apply_chat_template([{"role": "user", "content": "Two?"}])
    assert begun.endswith("assistant\n")
    assert lm.tok_encode(begun).count(tiny_tokenizer.bos_token_id) == 2
    assert lm.chat_template(True) == tiny_tokenizer.chat_template


# --- likelihood ---


def test_a_mask_that_is_written_is_text(make_lm, tiny_tokenizer):
    """Nothing is filled in there, and as a response it is likely to some degree."""
    lm = make_lm()
    assert tiny_tokenizer.mask_token_id not in lm.tok_encode("a <|mask|> b")
    ((likelihood, _),) = lm.loglikelihood([request("Who?", "<|mask|>")])
    assert math.isfinite(likelihood)
    with pytest.raises(ValueError, match="The response '' has no tokens of its own"):
        lm.loglikelihood([request("", "")])


def test_likelihoods_are_those_of_the_tokens(make_lm, tiny_llada, tiny_tokenizer):
    lm, encode = make_lm(batch_size=3), lambda text: tuple(tiny_tokenizer.encode(text))
    pairs = [("One plus one is", " two"), ("Who?", " I"), ("", "abc"), ("One plus one is", " two")]
    found = lm.loglikelihood([request(*pair) for pair in pairs])
    two = Question(encode("One plus one is"), encode(" two"))
    questions = [
        two,
        Question(encode("Who?"), encode(" I")),
        Question((tiny_tokenizer.bos_token_id,), encode("abc")),
        two,
    ]
    wanted = dict(LikelihoodEstimator(tiny_llada, 3, draws=4).estimates(questions, greedy=True))
    for (log_likelihood, is_greedy), question in zip(found, questions, strict=True):
        assert log_likelihood == pytest.approx(wanted[question].log_likelihood, abs=1e-4)
        assert is_greedy == wanted[question].is_greedy
    assert lm.estimates[pairs[0]].standard_error == pytest.approx(wanted[two].standard_error, abs=1e-4) != 0
    counted = lm.get_model_info()["conv_dlm"]["counted"]
    errors = [lm.estimates[pair].standard_error for pair in pairs]
    assert counted["likelihoods"] == 4
    assert counted["likelihood_rms_standard_error"] == pytest.approx(math.sqrt(sum(e * e for e in errors) / 4))


def test_responses_that_cannot_be_scored(make_lm):
    with pytest.raises(ValueError, match="has no tokens of its own after 'Who"):
        make_lm().loglikelihood([request("Who?", "")])
    with pytest.raises(ValueError, match="A response of 30 tokens leaves no room"):
        make_lm(max_length=30).loglikelihood([request("Who?", "x" * 30)])
    lm = make_lm(max_length=10)
    assert lm.loglikelihood([request("z" * 50 + "abcdef", "wxyz")]) == lm.loglikelihood([request("abcdef", "wxyz")])


def test_rolling_windows_hold_every_token_once(make_lm, tiny_tokenizer):
    text = "A text of 40 tokens, longer than 16 ones"
    lm = make_lm(max_length=16, batch_size=4)
    windows = [Question(tuple(prompt), tuple(response)) for prompt, response in lm._windows(text)]
    assert sum((window.response for window in windows), ()) == tuple(tiny_tokenizer.encode(text))
    assert windows[0].prompt == (tiny_tokenizer.bos_token_id,)
    assert max(window.length for window in windows) == 16
    found = lm.loglikelihood_rolling([request(text), request("short"), request("")])
    parts = dict(lm._estimator.estimates(windows)).values()
    assert found[0] == pytest.approx(sum(part.log_likelihood for part in parts), abs=1e-3)
    assert found[2] == 0
    error = math.sqrt(sum(part.standard_error**2 for part in parts))
    assert lm.estimates[(text,)].standard_error == pytest.approx(error, abs=1e-3)


# --- models ---


def test_adapters_quantised_or_not(make_llada, tiny_tokenizer, tmp_path):
    """By `peft`, or by the adapter's own name, which brings the base model."""
    peft = pytest.importorskip("peft")
    model, base = make_llada(d_model=64, mlp_hidden_size=128), tmp_path / "base"  # bitsandbytes packs 64 columns
    model.save_pretrained(base)
    tiny_tokenizer.save_pretrained(base)
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], r=2, init_lora_weights=False)
    config.base_model_name_or_path = str(base)
    tuned = peft.get_peft_model(model, config)
    tuned.peft_config["default"].base_model_name_or_path = str(base)
    tuned.save_pretrained(tmp_path / "adapter")

    def score(pretrained, **how):
        lm = ConvDLM(str(pretrained), tokenizer=str(base), device="cpu", **how)
        return lm, lm.loglikelihood([request("One plus one is", " 2")])[0][0]

    _, plain = score(base)
    lm, adapted = score(base, peft=str(tmp_path / "adapter"))
    assert adapted == score(tmp_path / "adapter")[1] != plain
    assert (lm.settings["model"], lm.settings["adapter"]) == ("base", "adapter")
    pytest.importorskip("bitsandbytes")
    lm, quantised = score(base, quantize="4bit", peft=str(tmp_path / "adapter"))
    four_bits = BitsAndBytesConfig(load_in_4bit=True)
    by_hand = AutoModelForCausalLM.from_pretrained(base, dtype="float32", quantization_config=four_bits)
    by_hand = peft.PeftModel.from_pretrained(by_hand, tmp_path / "adapter")
    ids = torch.arange(4, 20)[None]
    assert lm.model.is_loaded_in_4bit and quantised != adapted
    torch.testing.assert_close(lm.model(ids).logits, by_hand(ids).logits, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_sise": 8}, "`kernel_sise` is no argument of `--model conv_dlm`; did you mean `kernel_size`"),
        ({"trust_remote_code": True}, "Known: pretrained, tokenizer, peft"),
        ({"batch_size": "auto"}, "`batch_size`='auto' must be a whole number"),
        ({"decode_type": "topk", "kernel_size": 8}, "`kernel_size`=8 has no effect"),
        ({"mc_draws": 3}, "`draws`=3 must be even"),
        ({"mc_draws": "many"}, "`mc_draws`='many' must be a whole number"),
        ({"seed": 1.5}, "`seed`=1.5 must be a whole number"),
        ({"max_length": "long"}, "`max_length`='long' must be a whole number"),
        ({"max_new_tokens": True}, "`max_new_tokens`=True must be a whole number"),
        ({"peft": 3}, "`peft`=3 must be text"),
        ({"dtype": "float16"}, "`dtype`='float16' has no effect on a model that is loaded"),
        ({"max_length": 257}, "`max_length`=257, and the model's config says 256"),
    ],
)
def test_impossible_arguments(make_lm, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_lm(**arguments)


def test_our_settings_are_no_task_settings(make_lm):
    with pytest.raises(ValueError, match="`steps` has no effect in `--gen_kwargs`; put it into `--model_args`"):
        texts_of(make_lm(), "Two?", steps=3)


# --- whole runs ---


def test_an_interrupted_run_goes_on_from_its_cache(make_lm, monkeypatch, tmp_path):
    whole = run(make_lm(**SHORT), *SOME)["samples"]
    cache, done = str(tmp_path / "cache"), []

    def killed(self, batch):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(batch)
        return texts(self, batch)

    texts = ConvDLM._texts
    with monkeypatch.context() as patch:
        patch.setattr(ConvDLM, "_texts", killed)
        with pytest.raises(KeyboardInterrupt):
            run(make_lm(**SHORT), *SOME, use_cache=cache)

    lm = make_lm(**SHORT)
    assert responses(run(lm, *SOME, use_cache=cache)["samples"]) == responses(whole)
    assert lm.counted["texts"] == 1
    again = make_lm(**SHORT, batch_size=2)
    assert responses(run(again, *SOME, use_cache=cache)["samples"]) == responses(whole)
    assert not again.counted
    with pytest.raises(ValueError, match=r"cache of another run \(seed: 0, now 1\)"):
        CachingLM(make_lm(**SHORT, seed=1), f"{cache}_rank0.db")


def command_of_a_rank(words):
    """Without the 13,000 task files of lm-eval, which its command takes 20 s to read."""
    TaskManager.__init__ = partialmethod(TaskManager.__init__, include_defaults=False)
    run_program("conv_dlm.evaluation.harness", words)


def test_processes_share_the_work_and_agree(make_lm, tiny_checkpoint, tmp_path):
    """The command, in two processes with two and one of three documents."""
    words = ["--model_args", f"pretrained={tiny_checkpoint},mc_draws=4,steps=4,max_new_tokens=12", "--batch_size", "2"]
    words += ["--include_path", TASKS, "--tasks", ",".join(ALL), "--log_samples", "--output_path", str(tmp_path)]
    words += ["--seed", "7"]
    in_ranks("cpu", 2, command_of_a_rank, ["--model", "conv_dlm", *words])
    (results,) = tmp_path.rglob("results_*.json")
    config = json.loads(results.read_text())["config"]
    assert (config["model"], config["conv_dlm"]["seed"]) == ("conv_dlm", 7)
    assert config["conv_dlm"]["counted"]["texts"] == 4  # the second repeats its last one, so that both have as many
    alone = run(make_lm(**SHORT, seed=7), *ALL)["samples"]
    for task, samples in alone.items():
        (file,) = tmp_path.rglob(f"samples_{task}_*.jsonl")
        theirs = sorted((json.loads(line) for line in file.read_text().splitlines()), key=lambda one: one["doc_id"])
        assert responses({task: theirs}) == responses({task: samples})


def test_word_problems_are_a_task(make_lm, monkeypatch):
    """Right answers are right, others are not; the metadata choose the problems, among what lm-eval puts into them."""
    options = {"levels": [1, 2], "questions": 3, "split": "unseen"}
    manager = TaskManager(
        include_path=our_harness.TASKS,
        include_defaults=False,
        metadata={"steps": 4, "seed": 3, "word_problems_options": options},
    )
    solutions = {
        one.question: one.solution for one in problems(0, 3, split="unseen", levels=(1, 2), forms=("prose",))
    }
    lm = make_lm(**SHORT)
    asked = []

    def answer(requests, **_):
        asked.extend(one.args[0] for one in requests)
        return [solutions[question] for question in asked[:2]] + ["#### 3.5"]

    monkeypatch.setattr(lm, "generate_until", answer)
    found = lm_eval.simple_evaluate(lm, tasks=["word_problems"], task_manager=manager, bootstrap_iters=0)
    assert sorted(asked) == sorted(solutions)
    assert found["results"]["word_problems"]["accuracy,none"] == pytest.approx(2 / 3)
    assert found["results"]["word_problems"]["sound,none"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("words", "ours"),
    [(["--tasks", "word_problems"], True), (["run", "--include_path=here"], False), (["ls", "tasks"], False)],
)
def test_the_command_knows_our_tasks(monkeypatch, words, ours: bool):
    monkeypatch.setattr("sys.argv", ["harness", *words])
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: None)
    our_harness.main()
    assert (sys.argv[1:] != words) == ours
    assert not ours or sys.argv[-2:] == ["--include_path", str(our_harness.TASKS)]


def run(lm, *tasks, **options):
    manager = TaskManager(include_path=TASKS, include_defaults=False)
    return lm_eval.simple_evaluate(lm, tasks=list(tasks), task_manager=manager, bootstrap_iters=0, **options)


def responses(samples):
    """Texts and rounded likelihoods of all documents, of samples as lm-eval keeps them or, as strings, writes them."""

    def plain(value):
        if isinstance(value, list | tuple):
            return [plain(part) for part in value]
        try:
            return round(float(value), 3)
        except ValueError:
            return value

    def first(answers):  # a process may have repeated its last request
        return plain(answers[0]) if isinstance(answers[0], str | float) else [plain(answers[0][0]), str(answers[0][1])]

    return {
        task: [[first(answers) for answers in sample["resps"]] for sample in some] for task, some in samples.items()
    }
