"""What parts of one's own can do, registered from a file outside of the package, with settings of their own."""

import contextlib
import io
import json
import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

import conv_dlm
from conv_dlm import DECODE_TYPES, DiffusionGenerationConfig, SettingError
from conv_dlm.cli import main
from conv_dlm.generation import STATISTICS, UNMASKING_RULES, UnmaskingRule, setting
from tests.forks import in_fork

MASK, EOS, PAD = 3, 2, 0
SOURCE = Path(__file__).with_name("own_parts.py")
PROMPT = torch.tensor([[1, 40, 50, 60]])


@pytest.fixture
def own_parts(tmp_path):
    """The file, somewhere else, loaded; forgotten afterwards."""
    path = tmp_path / "my_rules.py"
    shutil.copy(SOURCE, path)
    spec = spec_from_file_location("my_rules", path)
    module = module_from_spec(spec)
    sys.modules["my_rules"] = module
    before = [dict(registry) for registry in (DECODE_TYPES, UNMASKING_RULES, STATISTICS)]
    known = dict(conv_dlm.generation.settings.Registry.known)
    spec.loader.exec_module(module)
    yield path
    for registry, names in zip((DECODE_TYPES, UNMASKING_RULES, STATISTICS), before, strict=True):
        for name in registry.keys() - names.keys():
            del registry[name]
    for name in conv_dlm.generation.settings.Registry.known.keys() - known.keys():
        del conv_dlm.generation.settings.Registry.known[name]
    del sys.modules["my_rules"]


def run(model, prompt=PROMPT, **keywords):
    keywords = dict(max_new_tokens=16, eos_token_id=None, return_dict_in_generate=True) | keywords
    return model.generate(prompt, attention_mask=(prompt != PAD).long(), output_history=True, **keywords)


def log_probs_of(model, canvas):
    with torch.no_grad():
        logits = model(input_ids=canvas).logits.float()
    logits[..., MASK] = -torch.inf
    return logits.log_softmax(-1)


def test_a_rule_with_a_setting_of_its_own(own_parts, tiny_llada):
    """The setting changes the result, and what is committed is what the definition says, from the recorded canvases."""
    loose, strict = (run(tiny_llada, decode_type="mine", my_bound=bound) for bound in (0.5, 0.0))
    assert int(loose.forwards) < int(strict.forwards) == 16
    before = None
    for step, (canvas, after) in enumerate(zip(loose.history[:-1], loose.history[1:], strict=True)):
        log_p = log_probs_of(tiny_llada, canvas)
        masks = canvas == MASK
        confidence = log_p.max(-1).values.exp().masked_fill(~masks, -1)
        expected = torch.zeros_like(masks).scatter(1, confidence.argmax(1, keepdim=True), True)
        if before is not None:
            terms = torch.where(log_p > -torch.inf, log_p.exp() * (log_p - before), 0.0)
            expected = expected | (masks & (terms.sum(-1) < 0.5))
        assert torch.equal(masks & (after != MASK), expected), step
        before = log_p


def test_its_setting_is_checked_and_said_in_vain_elsewhere(own_parts, tiny_llada):
    with pytest.raises(SettingError, match="`my_bound`=-1 must be at least 0") as caught:
        run(tiny_llada, decode_type="mine", my_bound=-1)
    assert caught.value.field == "my_bound"
    with pytest.warns(UserWarning, match=r"`my_bound`=0.1 has no effect with `decode_type='llada'`.*\['mine'\]"):
        run(tiny_llada, decode_type="llada", my_bound=0.1, steps=8)


def test_its_setting_is_saved_and_loaded(own_parts, tiny_llada, tmp_path):
    config = DiffusionGenerationConfig(decode_type="mine", my_bound=0.25)
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text())["my_bound"] == 0.25
    assert DiffusionGenerationConfig.from_pretrained(tmp_path) == config
    same = run(tiny_llada, generation_config=config)
    assert torch.equal(same.sequences, run(tiny_llada, decode_type="mine", my_bound=0.25).sequences)


def test_a_saved_type_that_is_not_registered_prevents_no_loading(tmp_path):
    (tmp_path / "generation_config.json").write_text(json.dumps({"decode_type": "mine", "my_bound": 0.25}))
    with pytest.warns(UserWarning, match="`decode_type`='mine' does not exist"):
        config = DiffusionGenerationConfig.from_pretrained(tmp_path)
    assert config.decode_type is None and config.my_bound == 0.25


def test_the_command_line_tells_of_it(own_parts, capsys):
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "--my-bound X" in told and "nats by which a settled prediction may change (default: 0.05)" in told
    assert "what has settled, in blocks" in told


def told_by(words):
    with contextlib.redirect_stderr(io.StringIO()) as told:
        return main(words), told.getvalue()


def test_the_command_line_knows_the_parts_of_a_file(tiny_checkpoint):
    """In a process where nothing else registers them."""
    words = ["--parts", str(SOURCE), "generate", "abc", "--raw", "--model", str(tiny_checkpoint)]
    code, told = in_fork(told_by, [*words, "--decode-type", "mine", "--my-bound", "0.5", "--max-new-tokens", "8"])
    assert code == 0 and "forwards" in told, told


def test_parts_that_are_not_there_are_a_mistake(capsys):
    assert main(["--parts", "no_such.py", "generate"]) == 2
    assert "`--parts`=no_such.py is no Python file" in capsys.readouterr().err


def test_the_server_knows_it(own_parts):
    from conv_dlm.serving.fields import decode_settings

    assert decode_settings()["my_bound"] is float


def test_registries_refuse_what_would_be_ambiguous(own_parts):
    with pytest.raises(ValueError, match="unmasking rule 'settled' exists already"):
        UNMASKING_RULES.register("settled", UNMASKING_RULES["threshold"])
    with pytest.raises(ValueError, match=r"'nothing' is no unmasking rule; choose one of \["):
        UNMASKING_RULES.find("nothing")

    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Other(UnmaskingRule):
        my_bound: float = setting(0.9, "something else")

    @dataclass(frozen=True)
    class Taken(UnmaskingRule):
        top_k: int = setting(3, "a field of Transformers")

    for rule, message in ((Other, "another default"), (Taken, "a field of Transformers' GenerationConfig")):
        with pytest.raises(ValueError, match=message):
            UNMASKING_RULES.register("other", rule)
        assert "other" not in UNMASKING_RULES


def test_a_decision_may_say_tokens(own_parts, tiny_llada):
    out = run(tiny_llada, decode_type="second")
    steps = [0, *range(2, 17)]
    assert out.unmasked_at[0, 4:19].tolist() == steps[:15] and int(out.forwards) == 16
    for position, step in enumerate(steps[:15], start=4):
        top = log_probs_of(tiny_llada, out.history[step])[0, position].topk(2)
        assert int(out.sequences[0, position]) == int(top.indices[1])
        torch.testing.assert_close(out.log_probs[0, position], top.values[1], atol=1e-5, rtol=1e-5)


def test_a_rule_is_told_which_positions_are_fresh(own_parts, tiny_llada):
    fresh = sys.modules["my_rules"].fresh
    fresh.clear()
    run(tiny_llada, decode_type="second")
    assert len(fresh) == 16 and all(fresh)


def test_a_rule_that_masks_again_without_a_schedule_is_not_cut_off(own_parts, tiny_llada):
    """It takes more steps than there are masks, each row as many as it wants, and ends by its own word."""
    prompts = torch.tensor([[PAD, 1, 40, 50], [1, MASK, 60, 70]])
    out = run(tiny_llada, prompts, decode_type="again", max_new_tokens=5)
    assert out.history.shape[0] - 1 == 2 * 6 + 1
    again = (out.history[:-1] != MASK) & (out.history[1:] == MASK)
    assert not (out.sequences == MASK).any() and not again[:, :, 2:4].any()
    left = (out.history[1:] == MASK).sum(2)
    assert left[:, 0].tolist() == [5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0, 0]
    assert left[:, 1].tolist() == [6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0]
    for row in range(2):  # a row that is finished first changes no more
        alone_prompt = prompts[row : row + 1, 1 - row :]
        alone = run(tiny_llada, alone_prompt, decode_type="again", max_new_tokens=5)
        assert torch.equal(alone.sequences[0], out.sequences[row, 1 - row :])
        assert alone.forwards[0] == out.forwards[row]


def test_processors_may_ask_for_positions_rows_and_the_step(tiny_llada):
    seen = []

    def only_even(ids, scores, positions, rows, step):
        assert positions.shape == rows.shape == scores.shape[:1]
        assert (ids[torch.arange(len(ids)), positions] == MASK).all()
        seen.append((step, sorted(set(rows.tolist()))))
        odd = torch.arange(scores.shape[1]) % 2 == 1
        return torch.where(odd & (positions % 2 == 0)[:, None], -torch.inf, scores)

    prompts = torch.tensor([[PAD, 1, 40, 50], [1, 44, 60, 70]])
    out = run(tiny_llada, prompts, decode_type="conv_threshold", logits_processor=[only_even], kernel_size=8)
    assert (out.sequences[:, 4::2] % 2 == 0).all() and (out.sequences[:, 5::2] % 2 == 1).any()
    assert [step for step, _ in seen] == list(range(len(seen))) and seen[0][1] == [0, 1]


@pytest.mark.parametrize("decode_type", ["conv", "llada", "threshold", "categorical"])
def test_log_probs_are_those_of_the_step_that_committed(tiny_llada, decode_type):
    settings = {} if decode_type == "threshold" else dict(steps=8)
    generator = torch.Generator().manual_seed(0)
    out = run(tiny_llada, decode_type=decode_type, generator=generator, **settings)
    for position in range(4, 20):
        step = int(out.unmasked_at[0, position])
        at = log_probs_of(tiny_llada, out.history[step])[0, position, out.sequences[0, position]]
        torch.testing.assert_close(out.log_probs[0, position], at, atol=1e-5, rtol=1e-5)
    assert (out.log_probs[0, :4] == 0).all()


def test_finish_reasons(tiny_llada):
    prompts = torch.tensor([[1, 40, 50], [1, 44, 60], [1, 70, 80]])
    settings = dict(decode_type="threshold", threshold=1.0, block_length=4, max_new_tokens=12, pad_token_id=PAD)
    ends = run(tiny_llada, prompts, **settings).sequences[0, 6:8].tolist()
    out = run(tiny_llada, prompts, **settings, eos_token_id=ends)
    for row, reason in enumerate(out.finish_reason):
        assert reason == ("eos" if torch.isin(out.sequences[row, 3:], torch.tensor(ends)).any() else "length")
    assert set(out.finish_reason) == {"eos", "length"}
    stop = lambda ids, scores: torch.tensor([ids.shape[1] >= 9])  # noqa: E731
    assert run(tiny_llada, prompts, **settings, stopping_criteria=[stop]).finish_reason == ["criterion"] * 3


def test_a_callback_follows_a_run_and_stops_it(tiny_llada):
    """Rows end at their first mask, without a forward more."""
    told = []

    def callback(now):
        told.append(now)
        return now.step == 3

    prompts = torch.tensor([[PAD, 1, 40, 50], [1, 44, 60, 70]])
    whole = run(tiny_llada, prompts, decode_type="threshold", threshold=1.0, block_length=4, pad_token_id=PAD)
    out = run(
        tiny_llada, prompts, decode_type="threshold", threshold=1.0, block_length=4, pad_token_id=PAD,
        callback_on_step_end=callback,
    )  # fmt: skip
    assert [now.step for now in told] == [0, 1, 2, 3] and told[-1].forwards == [4, 4] == out.forwards.tolist()
    assert all(torch.equal(now.ids, canvas) for now, canvas in zip(told, whole.history[1:5], strict=True))
    assert out.finish_reason == ["callback"] * 2
    assert torch.equal(out.sequences[:, :8], whole.sequences[:, :8]) and (out.sequences[:, 8:] == PAD).all()
    assert ((told[0].draft == MASK) == (told[0].ids != MASK) | False).any()

    class Enough(Exception):
        pass

    def leave(now):
        raise Enough

    with pytest.raises(Enough):
        run(tiny_llada, decode_type="conv", callback_on_step_end=leave)
