"""The contract with Transformers, TRL and PEFT: everything that is overridden stands in it, and a change is refused."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from importlib.metadata import version

import pytest
import trl
from transformers import PreTrainedModel

import conv_dlm
import trainers
from conv_dlm.contract import MODELS_AND_GENERATION, TRAINERS, agrees, check_contract, find, parameters_of

PACKAGES = ("transformers", "trl", "peft")
WRITTEN_AT_RUN_TIME = ("_abc_impl", "_cached_value")  # ends of names that Python and Transformers put into classes
HOOK = "transformers.PreTrainedModel.get_compiled_call"  # any row


def our_classes() -> Iterator[type]:
    for package in (conv_dlm, trainers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "__main__" not in module.name:
                members = vars(importlib.import_module(module.name)).values()
                yield from (c for c in members if inspect.isclass(c) and c.__module__ == module.name)


def test_everything_that_is_overridden_stands_in_the_table() -> None:
    rows = {path.rpartition(".")[::2] for path in MODELS_AND_GENERATION | TRAINERS}
    promised = {(find(owner), name) for owner, name in rows if inspect.isclass(find(owner))}
    missing, seen = set(), set()
    for ours in our_classes():
        theirs = [base for base in ours.__mro__ if base.__module__.partition(".")[0] in PACKAGES]
        for name in vars(ours):
            if name.startswith("__") or name.endswith(WRITTEN_AT_RUN_TIME):
                continue
            if any(name in vars(base) for base in theirs):
                stands = {(base, name) for base in theirs} & promised
                seen |= stands
                if not stands:
                    missing.add(f"{ours.__name__}.{name}")
    assert not missing
    assert len(seen) > 60


@pytest.mark.parametrize(
    ("parameters", "changed"),
    [
        ("self, input_ids, cache, **kwargs", "renamed"),
        ("self, ids, **kwargs", "renamed"),
        ("self, input_ids, logits_processor, further=None", "one more"),
        ("self", "one less"),
    ],
)
def test_a_hook_that_changed_is_named_with_the_version(
    parameters: str, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_contract(MODELS_AND_GENERATION)
    namespace: dict[str, object] = {}
    exec(f"def hook({parameters}): pass", namespace)
    monkeypatch.setattr(PreTrainedModel, "get_compiled_call", namespace["hook"])
    told = rf"transformers {version('transformers')} has changed `{HOOK}` from \(self, "
    with pytest.raises(ImportError, match=told):
        check_contract(MODELS_AND_GENERATION)


def test_a_hook_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(PreTrainedModel, "get_compiled_call")
    with pytest.raises(ImportError, match=rf"has no `{HOOK}`. .* older transformers"):
        check_contract(MODELS_AND_GENERATION)


@pytest.mark.parametrize(
    ("row", "found", "agree"),
    [
        ("self, a", "self, a=", True),
        ("self, a", "self, b", False),
        ("self, a", "self, a, b=", False),  # an override without `b` would be called with it
        ("self, a, ...", "self, a, b=", True),
        ("self, a, ...", "self, a, b", False),
        ("self, new|old", "self, old", True),
        ("self, **rest", "self, rest", False),
        ("", "", True),
    ],
)
def test_rows_are_read_as_they_are_written(row: str, found: str, agree: bool) -> None:
    assert agrees(row, found) is agree


def test_parameters_are_spelled_as_rows_are() -> None:
    def hook(self, a, b=1, *rest, c, d=2, **more):  # type: ignore[no-untyped-def]
        pass

    assert parameters_of(hook) == "self, a, b=, *rest, c, d=, **more"


def test_the_contracts_are_checked_on_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what defines `generate`, and by the trainers; tests/test_package.py looks at what else an import brings."""
    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedModel, "get_compiled_call", lambda self, ids: None)
        with pytest.raises(ImportError, match=f"transformers {version('transformers')} has changed `{HOOK}`"):
            importlib.reload(sys.modules["conv_dlm.generation.mixin"])
    monkeypatch.setattr(trl.SFTTrainer, "compute_loss", lambda self, inputs: None)
    told = rf"trl {version('trl')} has changed `trl.SFTTrainer.compute_loss` from \(self, model, "
    with pytest.raises(ImportError, match=told):
        importlib.reload(trainers)
