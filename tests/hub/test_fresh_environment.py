"""Staged checkpoints load and denoise where Transformers is installed alone, as they do here."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import conv_dlm
from conv_dlm.hub import stage
from conv_dlm.models import MDLM, MDLMConfig
from conv_dlm.models.self_contained import add_code
from tests.hub.conftest import COMMIT, Alone
from tests.models.families import load

HUB_CARDS = Path(__file__).parents[2] / "hub_cards"
PROMPT = "One plus one is"
SETTINGS = {"steps": 4, "max_new_tokens": 12}
GENERATE = """
import importlib.util, json, torch
from transformers import {auto} as AutoModelForAnything, AutoTokenizer

for name in ("conv_dlm", "trl", "peft", "accelerate"):
    assert importlib.util.find_spec(name) is None, name
name, prompt, options, trusted = {name!r}, {prompt!r}, {options!r}, {trusted!r}
load = dict(trust_remote_code=True) if trusted else {{}}
tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left", **load)
inputs = tokenizer(prompt, return_tensors="pt")
model = AutoModelForAnything.from_pretrained(name, dtype="float32", **load)
computed, projected = [], []
note = lambda _, __, named: computed.append(named["input_ids"].shape[1])
model.register_forward_pre_hook(note, with_kwargs=True)
model.get_output_embeddings().register_forward_hook(lambda _, __, logits: projected.append(logits.shape[1]))
torch.manual_seed(7)
tokens = model.generate(**inputs, **options).tolist()
print(json.dumps([type(model).__module__, tokens, computed, projected]))
"""


def here(folder: Any, **options: Any) -> list[list[int]]:
    """What the native class writes, in this process."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    assert type(model).__module__.startswith("conv_dlm.")  # with conv_dlm imported the native class wins
    inputs = AutoTokenizer.from_pretrained(folder, padding_side="left")(PROMPT, return_tensors="pt")
    return seeded(model, inputs, **options)


def seeded(model: Any, inputs: Any, **options: Any) -> list[list[int]]:
    torch.manual_seed(7)
    return model.generate(**inputs, **options).tolist()


@pytest.fixture(scope="module")
def mdlm_checkpoint(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = MDLMConfig(vocab_size=260, model_length=64, hidden_dim=32, cond_dim=8, n_blocks=2, n_heads=2,
                        mask_token_id=3, pad_token_id=0, bos_token_id=1, eos_token_id=2)  # fmt: skip
    model = MDLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path_factory.mktemp("tiny-mdlm")
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def asking(name: Any, options: dict[str, Any], auto: str = "AutoModelForCausalLM", trusted: bool = True) -> str:
    """The code that loads a model by its name, and prints where its class is from and what it writes."""
    return GENERATE.format(name=str(name), prompt=PROMPT, options=options, auto=auto, trusted=trusted)


@pytest.mark.parametrize(
    ("which", "auto"),
    [("llada", "AutoModelForCausalLM"), ("mdlm", "AutoModel"), ("embedded", "AutoModelForMaskedLM")],
)
def test_a_staged_checkpoint_needs_nothing_of_ours(
    which: str, auto: str, transformers_alone: Alone, tiny_checkpoint: Path, mdlm_checkpoint: Path, tmp_path: Path
) -> None:
    sources = {"llada": tiny_checkpoint, "mdlm": mdlm_checkpoint, "embedded": conv_dlm.embedded_checkpoint()}
    staged = stage(sources[which], tmp_path / "staged").folder
    options = SETTINGS | {"decode_type": "conv", "kernel_size": 8}
    module, written, *_ = json.loads(transformers_alone(asking(staged, options, auto)))
    assert module.startswith("transformers_modules.")
    assert written == here(staged, **options)


@pytest.mark.parametrize(
    ("which", "decode_type", "cache"),
    [("llada", "conv", "window"), ("mdlm", "threshold", "dual"), ("llada", "llada", "prefix")],
)
def test_its_code_projects_the_window_alone_and_has_all_caches(
    which: str, decode_type: str, cache: str, transformers_alone: Alone, tiny_checkpoint: Path,
    mdlm_checkpoint: Path, tmp_path: Path,
) -> None:  # fmt: skip
    staged = stage({"llada": tiny_checkpoint, "mdlm": mdlm_checkpoint}[which], tmp_path / "staged").folder
    of_type = {"conv": {"kernel_size": 4, "steps": 40}, "threshold": {"block_length": 8, "threshold": 0.9}}
    options = {"decode_type": decode_type, "max_new_tokens": 40, "cache_implementation": cache, "eos_token_id": None}
    options |= of_type.get(decode_type, {"block_length": 8, "steps": 40})
    if cache == "window":
        options["cache_refresh_interval"] = 1000
    _, written, computed, projected = json.loads(transformers_alone(asking(staged, options)))
    assert len(computed) > 5 and max(projected) <= 16  # of 40 positions and the prompt's
    assert max(computed) == len(written[0]) and min(computed) < len(written[0]) // 2
    assert written == here(staged, **options)


def test_loading_by_name_from_the_hub(transformers_alone: Alone, tiny_checkpoint: Path) -> None:
    """The Hub's files arrive one by one, and Transformers follows their imports another way than in a folder."""
    repository = transformers_alone.hub / "models--someone--tiny-llada"
    repository.mkdir(parents=True)
    stage(tiny_checkpoint, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    options = SETTINGS | {"decode_type": "threshold", "threshold": 0.02}
    options.pop("steps")
    code = asking("someone/tiny-llada", options)
    module, written, *_ = json.loads(transformers_alone(code))
    assert "someone" in module
    assert written == here(tiny_checkpoint, **options)


def test_a_model_that_came_with_its_code_is_saved_with_it(
    transformers_alone: Alone, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    staged = stage(tiny_checkpoint, tmp_path / "staged").folder
    for file in staged.glob("tokenizer*"):
        (tmp_path / "again").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "again")
    code = (
        "from transformers import AutoModelForCausalLM\n"
        f"AutoModelForCausalLM.from_pretrained({str(staged)!r}, trust_remote_code=True)"
        f".save_pretrained({str(tmp_path / 'again')!r})\n"
    )
    written = json.loads(transformers_alone(code + asking(tmp_path / "again", SETTINGS)))[1]
    assert {file.name for file in (tmp_path / "again").glob("*.py")} == {file.name for file in staged.glob("*.py")}
    assert written == here(tiny_checkpoint, **SETTINGS)


OF_SEVERAL = """
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

for folder in {folders!r}:
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    saved = load_file(f"{{folder}}/logits.safetensors")
    with torch.no_grad():
        assert torch.equal(model(saved["ids"]).logits, saved["logits"]), folder
    out = model.generate(saved["ids"], decode_type="threshold", max_new_tokens=5, pad_token_id=0, mask_token_id=1)
    assert out.shape == (2, 17)
    print(type(model).__name__)
"""


def test_code_that_lies_beside_a_checkpoint_is_enough(transformers_alone: Alone, tmp_path: Path) -> None:
    """Of one family of each kind: shifted, block-causal with experts, one that shares LLaDA's model type, renamed."""
    folders = []
    for family in ("dream_tiny", "sdar_moe_tiny", "llada_moe_tiny", "llada2_tiny"):
        model, ids = load(family), torch.arange(2, 26).reshape(2, 12)
        folders.append(str(tmp_path / family))
        model.save_pretrained(folders[-1])
        add_code(folders[-1], type(model))
        save_file({"ids": ids, "logits": model(ids).logits.detach()}, f"{folders[-1]}/logits.safetensors")
    names = transformers_alone(OF_SEVERAL.format(folders=folders)).split()
    assert names == ["DreamModel", "SDARMoeForCausalLM", "LLaDAMoEModelLM", "LLaDA2MoeModelLM"]


@pytest.fixture(scope="module")
def foreign_checkpoint(tiny_tokenizer: Any, tiny_llama: LlamaForCausalLM, tmp_path_factory: Any) -> Path:
    """Someone else's model, which does not denoise: as far as `generate` can tell, any would do."""
    folder = tmp_path_factory.mktemp("foreign")
    tiny_llama.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"mask_token_id": 3}))
    tiny_tokenizer.save_pretrained(folder)
    return folder


def test_custom_generate_for_other_peoples_models(
    transformers_alone: Alone, foreign_checkpoint: Path, tmp_path: Path
) -> None:
    staged = stage(HUB_CARDS / "conv-decoding", tmp_path / "conv-decoding").folder
    options = SETTINGS | {"decode_type": "conv", "kernel_size": 8}
    asked = options | {"custom_generate": str(staged), "trust_remote_code": True}
    module, written, *_ = json.loads(transformers_alone(asking(foreign_checkpoint, asked, trusted=False)))
    assert module.startswith("transformers.models.llama")

    model = LlamaForCausalLM.from_pretrained(foreign_checkpoint)
    inputs = AutoTokenizer.from_pretrained(foreign_checkpoint, padding_side="left")(PROMPT, return_tensors="pt")
    before, attributes = model.generate(**inputs, max_new_tokens=5), vars(model).copy()
    assert written == seeded(model, inputs, **asked)
    assert type(model) is LlamaForCausalLM and vars(model) == attributes  # and writes from left to right again
    assert torch.equal(model.generate(**inputs, max_new_tokens=5), before)
    assert written == seeded(conv_dlm.enable_diffusion(model), inputs, **options)


def test_custom_generate_tells_what_is_wrong(foreign_checkpoint: Path, tmp_path: Path) -> None:
    staged = stage(HUB_CARDS / "conv-decoding", tmp_path / "conv-decoding").folder
    model = LlamaForCausalLM.from_pretrained(foreign_checkpoint)
    ask = {"custom_generate": str(staged), "trust_remote_code": True, "max_new_tokens": 4}
    ids = torch.tensor([[5, 6, 7]])
    with pytest.raises(ValueError, match="convv"):
        model.generate(ids, **ask, decode_type="convv")
    with pytest.raises(ValueError, match="`mask_token_id`=900 is not an id"):
        model.generate(ids, **ask, mask_token_id=900)
    assert type(model) is LlamaForCausalLM
    with pytest.raises(ValueError, match="trust_remote_code"):
        model.generate(ids, custom_generate=str(staged), max_new_tokens=4, trust_remote_code=False)
