"""What works with which family, and the test that shows it: the table of `conv-dlm models --features`.

A test says that every named one exists.
"""

# the families' classes -> what people call them
FAMILIES = {
    "LLaDAModelLM": "LLaDA",
    "MDLM": "MDLM",
    "DreamModel": "Dream",
    "A2DQwen3LMHeadModel": "A2D (Qwen3)",
    "A2DQwen2LMHeadModel": "A2D (Qwen2)",
    "A2DLlamaLMHeadModel": "A2D (Llama)",
    "SDARForCausalLM": "SDAR",
    "SDARMoeForCausalLM": "SDAR-MoE",
    "Fast_dLLM_QwenForCausalLM": "Fast-dLLM v2",
    "LLaDAMoEModelLM": "LLaDA-MoE",
    "LLaDA2MoeModelLM": "LLaDA2",
}
# a feature -> its test, which takes a family's class as its parameter
FEATURES = {
    "logits": "tests/models/test_every_family.py::test_logits",
    "rules": "tests/models/test_every_family.py::test_rules",
    "caches": "tests/models/test_every_family.py::test_caches",
    "guidance": "tests/models/test_every_family.py::test_guidance",
    "infilling": "tests/models/test_every_family.py::test_infilling",
    "trainer": "tests/trainers/test_families.py::test_both_trainers_train",
    "LoRA": "tests/models/test_every_family.py::test_lora",
    "quantised": "tests/models/test_every_family.py::test_quantised",
    "push": "tests/models/test_every_family.py::test_push",
    "serve": "tests/models/test_every_family.py::test_serve",
}
_BLOCKS = ("SDARForCausalLM", "SDARMoeForCausalLM", "Fast_dLLM_QwenForCausalLM", "LLaDA2MoeModelLM")
# what works in another way -> its name, and the test of it
OTHERWISE = {
    ("trainer", name): ("bd3lm", "tests/trainers/test_families.py::test_block_by_block_they_train") for name in _BLOCKS
}


def cell(feature: str, model_class: str) -> tuple[str, str]:
    """How a feature works with a family, `yes` or by what name, and its test as pytest names it."""
    works, test = OTHERWISE.get((feature, model_class), ("yes", FEATURES[feature]))
    return works, f"{test}[{model_class}]"


def table() -> str:
    """The table as text: `yes`, or by what name it works."""
    width = max(map(len, FAMILIES.values()))
    lines = [" " * width + "".join(f"  {feature}" for feature in FEATURES)]
    for model_class, name in FAMILIES.items():
        works = [f"  {cell(feature, model_class)[0]:{len(feature)}}" for feature in FEATURES]
        lines.append(f"{name:{width}}" + "".join(works))
    return "\n".join(line.rstrip() for line in lines)


def cells() -> dict[str, dict[str, dict[str, str]]]:
    """The table as data: family -> feature -> how it works, and its test."""
    return {
        name: {
            feature: dict(zip(("works", "test"), cell(feature, model_class), strict=True)) for feature in FEATURES
        }
        for model_class, name in FAMILIES.items()
    }
