"""What `conv-dlm models --features` says: one test for each column, one case for each row."""

import copy
import importlib
import inspect
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.tuners.lora import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TorchAoConfig

from conv_dlm.answering.loading import load_model
from conv_dlm.cli.features import FAMILIES, FEATURES, cells
from conv_dlm.demo.job import Job, LoadedModel
from conv_dlm.demo.order import Order
from conv_dlm.hub import stage
from conv_dlm.models.self_contained import AUTO_CLASSES
from tests.models import families
from tests.models.families import FIXTURES, MODELS, tiny
from trainers.adapters import complete

MASK = 3
GOLDEN = {model.__name__: (folder, tolerance) for folder, (model, tolerance) in reversed(families.FAMILIES.items())} | {
    "LLaDAModelLM": ("llada_tiny", 5e-6),
    "MDLM": ("mdlm_tiny", 1e-5),
}
ROWS = [[5, 40, 60, 70, 80, 90, 91, 92], [1, 44, 45, 46]]


def generate(model: Any, rows: list[list[int]], **settings: Any) -> Any:
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_side="left")
    return model.generate(
        ids, attention_mask=(ids != 0).long(), return_dict_in_generate=True,
        generator=[torch.Generator().manual_seed(sum(row)) for row in rows],
        **{"eos_token_id": None, "max_new_tokens": 8} | settings,
    )  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> Any:
    return tiny(name)


@pytest.fixture(scope="module")
def folder(model: Any, tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a tokenizer and a card."""
    made = tmp_path_factory.mktemp(type(model).__name__)
    model.save_pretrained(made)
    tiny_tokenizer.save_pretrained(made)
    (made / "README.md").write_text("---\nlicense: mit\n---\n\n# A model\n")
    return made


def test_logits(name: str) -> None:
    folder, tolerance = GOLDEN[name]
    cases = load_file(FIXTURES / folder / "cases.safetensors")
    golden = families.load(folder)
    case = "" if "logits" in cases else "block_"
    logits = golden(cases[f"{case}input_ids"]).logits
    torch.testing.assert_close(logits, cases[f"{case}logits"], rtol=0, atol=tolerance)


def test_rules(model: Any) -> None:
    """Rows by themselves, the prompt as it was, and no mask left."""
    for settings in ({}, {"decode_type": "conv", "steps": 8}, {"decode_type": "categorical", "steps": 8}):
        out = generate(model, ROWS, **settings)
        assert not (out.sequences == MASK).any()
        for row, prompt in enumerate(ROWS):
            text = out.sequences[row, len(ROWS[0]) - len(prompt) :].tolist()
            assert text[: len(prompt)] == prompt
            assert generate(model, [prompt], **settings).sequences[0].tolist() == text


def test_caches(model: Any) -> None:
    settings: dict[str, Any] = {"decode_type": "threshold", "threshold": 0.3, "block_length": 4}
    exact: dict[str, Any] = {"cache_implementation": "window", "cache_refresh_interval": 1}
    if getattr(model.config, "attention_pattern", "full") == "block_causal":
        exact = {"cache_implementation": "block"}
    plain = generate(model, ROWS, **settings, cache_implementation=None)
    cached = generate(model, ROWS, **settings, **exact)
    assert torch.equal(plain.sequences, cached.sequences) and torch.equal(plain.unmasked_at, cached.unmasked_at)
    if "window" in exact.values():
        assert not (generate(model, ROWS, **settings, cache_implementation="window").sequences == MASK).any()


def test_guidance(model: Any) -> None:
    """The first token of a response, by hand: u + g (c - u), without the prompt in u."""
    prompts = torch.tensor(ROWS[0])[torch.arange(64).view(8, 8) * 5 % 8]  # whole blocks
    out = generate(model, prompts.tolist(), decode_type="threshold", threshold=0.0, max_new_tokens=4, guidance_scale=4)
    canvas = torch.nn.functional.pad(prompts, (0, 4), value=MASK)
    with torch.no_grad():
        given, nothing = (model(ids).logits[:, 8 - int(model.shift_logits)] for ids in (canvas, canvas * 0 + MASK))
    given[:, MASK] = nothing[:, MASK] = -1e9
    assert torch.equal(out.sequences[:, 8], (nothing + 4 * (given - nothing)).argmax(-1))
    assert not torch.equal(out.sequences[:, 8], given.argmax(-1))


def test_infilling(model: Any) -> None:
    """Masks between given text, which stays; rows by themselves."""
    rows = [[5, 40, MASK, MASK, 80, 90, MASK, 92], [1, 44, MASK, 46]]
    out = generate(model, rows, decode_type="threshold", threshold=0.5, max_new_tokens=0)
    for row, prompt in enumerate(rows):
        text = out.sequences[row, len(rows[0]) - len(prompt) :].tolist()
        assert MASK not in text
        assert all(old in (new, MASK) for old, new in zip(prompt, text, strict=True))
        alone = generate(model, [prompt], decode_type="threshold", threshold=0.5, max_new_tokens=0)
        assert alone.sequences[0].tolist() == text


def test_lora(model: Any, tmp_path: Path) -> None:
    """On the layers that follow from the family; saved, loaded, and generating."""
    ids = torch.tensor([ROWS[0]])
    before = model(ids).logits
    tuned = get_peft_model(copy.deepcopy(model), complete(LoraConfig(r=2, init_lora_weights=False), model)).eval()
    tuned.save_pretrained(tmp_path)
    after = tuned(input_ids=ids).logits
    assert not torch.allclose(after, before, atol=1e-3)
    again = PeftModel.from_pretrained(copy.deepcopy(model), tmp_path).eval()
    assert torch.equal(again(input_ids=ids).logits, after)
    assert not (again.generate(input_ids=ids, max_new_tokens=4, eos_token_id=None) == MASK).any()


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised(name: str, folder: Path, bits: int) -> None:
    pytest.importorskip("bitsandbytes")
    options = {"load_in_8bit": True} if bits == 8 else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    quantised = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=BitsAndBytesConfig(**options), dtype=torch.float32, device_map="cpu"
    )
    ids = torch.tensor([ROWS[0]])
    logits, expected = quantised(ids).logits, tiny(name)(ids).logits
    assert 0 < (logits - expected).abs().mean() < (0.1 if bits == 8 else 0.6) * expected.std()


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_by_torchao(name: str, folder: Path, bits: int) -> None:
    """Where it is installed: nothing here asks for it, since it writes warnings wherever Transformers is imported."""
    quantization = pytest.importorskip("torchao.quantization")
    kind = quantization.Int8WeightOnlyConfig()
    if bits == 4:
        kind = quantization.IntxWeightOnlyConfig(torch.int4, quantization.PerGroup(32))
    how = {"quantization_config": TorchAoConfig(kind), "dtype": torch.float32, "device_map": "cpu"}
    ids, expected = torch.tensor([ROWS[0]]), tiny(name)(torch.tensor([ROWS[0]])).logits
    if name == "LLaDA2MoeModelLM":  # whose queries, keys and values are one matrix in files
        with pytest.raises(ValueError, match="quantize_"):
            AutoModelForCausalLM.from_pretrained(folder, **how)
        quantised = tiny(name)
        quantization.quantize_(quantised, kind)
    else:
        quantised = AutoModelForCausalLM.from_pretrained(folder, **how)
    logits = quantised(ids).logits
    assert 0 < (logits - expected).abs().mean() < (0.1 if bits == 8 else 0.6) * expected.std()


def test_push(name: str, folder: Path, tmp_path: Path) -> None:
    """What is staged says which class in its own code loads it."""
    staged = stage(folder, tmp_path / "staged")
    config = json.loads((staged.folder / "config.json").read_text())
    module, _, its_class = config["auto_map"][AUTO_CLASSES[0]].partition(".")
    assert its_class == name and (staged.folder / f"{module}.py").is_file()


def test_serve(folder: Path, serve: Any) -> None:
    """The server and the page, with the settings of the checkpoint."""
    model, tokenizer = load_model(str(folder), device="cpu")
    with serve(model, tokenizer) as address:
        asked = {"messages": [{"role": "user", "content": "2 + 3"}], "max_tokens": 8}
        request = urllib.request.Request(
            f"{address}/v1/chat/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            choice = json.load(reply)["choices"][0]
    assert choice["finish_reason"] in ("stop", "length")
    job = Job(Order("2 + 3", "tiny", ("conv", "threshold"), steps=8, size=4, length=8, seed=0))
    job.work({"tiny": LoadedModel(str(folder))})
    assert job.problem is None
    assert all(run.answer is not None for run in job.runs)


def test_the_table_has_every_family_and_every_test_that_it_names() -> None:
    assert list(FAMILIES) == list(MODELS)
    for row in cells().values():
        assert list(row) == list(FEATURES)
        for cell in row.values():
            path, _, test = str(cell["test"]).partition("::")
            function, _, case = test.rstrip("]").partition("[")
            module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
            assert case in parameters_of(module, function), cell


def parameters_of(module: Any, function: str) -> list[str]:
    """What a test is run with: by its marks, or by the fixtures of this file."""
    test = getattr(module, function)
    found = [mark.args[1] for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    if module.__name__ == __name__ and {"name", "model", "folder"} & inspect.signature(test).parameters.keys():
        found.append(list(MODELS))
    return [getattr(value, "__name__", str(value)) for values in found for value in values]
