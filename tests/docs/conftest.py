"""Tiny checkpoints in place of those that the documents name."""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from conv_dlm.hub import stage
from tests.docs.documents import ROOT
from tests.hub.conftest import hub as hub
from tests.models.families import tiny

# Published checkpoints, too big or too far for a test, and the tiny ones (fixtures) that stand in for them; and where
# documents ask a server.
STAND_INS = {
    "GSAI-ML/LLaDA-8B-Instruct": "tiny_published_llada",
    "GSAI-ML/LLaDA-8B-Base": "tiny_published_llada",
    "Dream-org/Dream-v0-Instruct-7B": "tiny_dream",
    "dllm-hub/Qwen3-0.6B-diffusion-mdlm-v0.1": "tiny_a2d",
    "dllm-hub/Qwen3-0.6B-diffusion-bd3lm-v0.1": "tiny_a2d",
    '"gpt2"': "tiny_mdlm",
    "kuleshov-group/mdlm-owt": "tiny_mdlm",
    "JetLM/SDAR-1.7B-Chat": "tiny_sdar",
    "Efficient-Large-Model/Fast_dLLM_v2_1.5B": "tiny_fast_dllm",
    "inclusionAI/LLaDA-MoE-7B-A1B-Instruct": "tiny_llada_moe",
    "inclusionAI/LLaDA2.0-mini": "tiny_llada2",
    "meta-llama/Llama-3.1-8B-Instruct": "causal_checkpoint",
    "someone/their-masked-diffusion-model": "tiny_foreign_model",
    "conv-dlm/conv-decoding": "staged_custom_generate",
    '"conv-dlm/conv-dlm-word-problems"': "tiny_published_llada",
    '"outputs/embedded/r2ft"': "tiny_published_llada",
    "--model outputs/embedded/answers": "causal_checkpoint",
    "--model outputs/embedded/diffusion": "tiny_published_llada",
    "--model outputs/embedded/plain": "tiny_published_llada",
    "--model outputs/embedded/grpo": "tiny_published_llada",
    "push outputs/run": "tiny_run",
    "push outputs/lora": "tiny_adapter",
    "--scorer smollm2": "causal_checkpoint",  # the option stays
    "http://127.0.0.1:8000": "served_address",  # a server of the first
}


@pytest.fixture(scope="session")
def tiny_published_llada(
    make_llada: Callable[..., Any], tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A tiny checkpoint as the published ones are: their context, no mask token in the tokenizer, pad = EOS."""
    folder = tmp_path_factory.mktemp("published-llada")
    # One layer, for the documents ask for hundreds of steps; bitsandbytes packs 64 columns at a time.
    size = dict(n_layers=1, d_model=64, mlp_hidden_size=128)
    make_llada(max_sequence_length=4096, pad_token_id=2, **size).save_pretrained(folder)
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.mask_token, tokenizer.pad_token = None, tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    return folder


def published(model_class: str) -> Any:
    """A fixture: the folder of a tiny checkpoint of that class."""

    @pytest.fixture(scope="session")
    def folder(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
        made = tmp_path_factory.mktemp(model_class)
        tiny(model_class).save_pretrained(made)
        tiny_tokenizer.save_pretrained(made)
        return made

    return folder


tiny_dream, tiny_a2d, tiny_mdlm = published("DreamModel"), published("A2DQwen3LMHeadModel"), published("MDLM")
tiny_sdar, tiny_fast_dllm = published("SDARForCausalLM"), published("Fast_dLLM_QwenForCausalLM")
tiny_llada_moe, tiny_llada2 = published("LLaDAMoEModelLM"), published("LLaDA2MoeModelLM")


@pytest.fixture(scope="session")
def tiny_foreign_model(causal_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is not this package's, with a mask."""
    folder = tmp_path_factory.mktemp("foreign") / "model"
    shutil.copytree(causal_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"mask_token_id": 3}))
    return folder


@pytest.fixture(scope="session")
def staged_custom_generate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stage(ROOT / "hub_cards" / "conv-decoding", tmp_path_factory.mktemp("staged") / "conv-decoding").folder


@pytest.fixture(scope="session")
def tiny_run(tiny_published_llada: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a trainer leaves in its `output_dir`: a model with its card."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    shutil.copytree(tiny_published_llada, folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# A model\n")
    return folder


@pytest.fixture(scope="session")
def tiny_adapter(tiny_published_llada: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRA on the tiny published checkpoint, with the tokenizer beside it, as the trainers leave one."""
    folder = tmp_path_factory.mktemp("adapter")
    model = AutoModelForCausalLM.from_pretrained(tiny_published_llada)
    get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_published_llada).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# An adapter\n")
    return folder


@pytest.fixture(scope="session")
def served_address(serve: Callable[..., Any], tiny_published_llada: Path) -> Iterator[str]:
    """Where a tiny model is served by the name of the embedded one."""
    from conv_dlm.answering.embedded import EMBEDDED_NAME
    from conv_dlm.answering.loading import load_model

    with serve(*load_model(str(tiny_published_llada), device="cpu"), EMBEDDED_NAME) as address:
        yield address


@pytest.fixture
def with_stand_ins(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Replaces published names in a text by folders of tiny checkpoints."""

    def replace(text: str) -> str:
        for name, fixture in STAND_INS.items():
            if name in text:
                option, quote = name.rpartition(" ")[0], '"' if name[0] == '"' else ""
                text = text.replace(name, f"{option} {quote}{request.getfixturevalue(fixture)}{quote}".strip())
        return text

    return replace
