"""What a step costs outside of the model, counted: kernels, reads from the device, uploads."""

import copy
import itertools
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from conv_dlm.generation import plan
from conv_dlm.generation.noise import row_seeds
from conv_dlm.generation.prepare import prepare

MASK, EOS, PAD = 3, 2, 0
READS = ("tolist", "item", "__bool__", "__int__", "__float__", "__index__", "nonzero", "cpu", "numpy")
UPLOADS = ("tensor", "as_tensor")
# operations that start no kernel: views, and what only makes or names a tensor
NO_KERNEL = {"empty", "empty_like", "new_empty", "detach", "lift_fresh", "alias", "_unsafe_view", "_reshape_alias"}


class Kernels(TorchDispatchMode):
    """Counts operations, but for views, while the model does not run."""

    def __init__(self, model):
        super().__init__()
        self.of, self.in_model, self.steps = Counter(), False, 0
        model.register_forward_pre_hook(lambda *_: setattr(self, "in_model", True))
        model.register_forward_hook(lambda *_: setattr(self, "in_model", False))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        is_view = any(a.alias_info is not None and not a.alias_info.is_write for a in func._schema.arguments)
        if not self.in_model and not is_view and name not in NO_KERNEL:
            self.of[name] += 1
        return func(*args, **(kwargs or {}))


def kernels_of_steps(model, rows, **settings):
    """What each step started, from the third to the last but one: what is made once in a run doesn't count."""
    model = copy.deepcopy(model)
    prompt = torch.tensor([[1, 40, 50, 60]]).repeat(rows, 1) + torch.arange(rows)[:, None]
    counts = []
    with Kernels(model) as kernels:
        model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=48, eos_token_id=EOS, pad_token_id=PAD,
            callback_on_step_end=lambda _: counts.append(Counter(kernels.of)),
            generator=[torch.Generator().manual_seed(row) for row in range(rows)], **settings,
        )  # fmt: skip
    return [after - before for before, after in itertools.pairwise(counts[3:-1])]


CASES = {
    "conv": (dict(decode_type="conv", kernel_size=8, steps=16), 130),
    "llada": (dict(decode_type="llada", block_length=16, steps=24), 90),
    "conv_threshold": (dict(decode_type="conv_threshold", kernel_size=8, threshold=0.3), 100),
    "conv + window": (
        dict(decode_type="conv", kernel_size=8, steps=16, cache_implementation="window", cache_refresh_interval=8), 180,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rows", [1, 8])
def test_kernels_outside_the_model(tiny_llada, name, rows):
    """Of the dearest step, one with a forward."""
    settings, most = CASES[name]
    steps = kernels_of_steps(tiny_llada, rows, **settings)
    dearest = max(steps, key=Counter.total)
    assert len(steps) > 8 and dearest["logsumexp"] and dearest.total() <= most, dearest.most_common()


BATCH = torch.tensor([[PAD, PAD, 1, 40, 50, 60], [1, 44, MASK, 5, 80, 81], [PAD, 1, 70, 71, 72, 73]])
WINDOW = dict(cache_implementation="window", cache_refresh_interval=4)
ASKED = {
    "conv": dict(decode_type="conv", kernel_size=16, steps=16),
    "llada": dict(decode_type="llada", block_length=8, steps=16),
    "conv_threshold": dict(decode_type="conv_threshold"),
    "guided": dict(decode_type="conv_threshold", guidance_scale=1.5, **WINDOW),
    "entropy": dict(decode_type="entropy", block_length=8, cache_implementation="prefix"),
    "conv, window": dict(decode_type="conv", kernel_size=16, steps=16, **WINDOW),
    "dual": dict(decode_type="threshold", block_length=8, cache_implementation="dual", eos_threshold=0.9),
    "exit": dict(decode_type="conv", steps=16, exit_schedule="linear"),
    "lookahead": dict(decode_type="conv", kernel_size=8, steps=16, lookahead=16),
    "remdm": dict(decode_type="remdm", steps=16),
    "categorical": dict(decode_type="categorical", steps=16, temperature=0.7, top_k=5),
}


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("rows", [1, 3])
def test_one_question_a_step_and_nothing_uploaded(tiny_llada, name, rows, monkeypatch):
    """By counting the methods of tensors that wait for a device, and tensors that are made of Python's numbers. Which
    rows a forward is of is uploaded once for each set of them, by copies that are not waited for."""
    asked, steps, sets = [], [], []

    def counting(name, function):
        return lambda *args, **kwargs: (asked.append(name), function(*args, **kwargs))[1]

    make = torch.tensor

    def uploading(values, device):
        sets.append(tuple(values))
        return make(values).to(device)

    for method in READS:
        monkeypatch.setattr(torch.Tensor, method, counting(method, getattr(torch.Tensor, method)))
    for function in UPLOADS:
        monkeypatch.setattr(torch, function, counting(function, getattr(torch, function)))
    monkeypatch.setattr("conv_dlm.generation.cache.upload", uploading)
    monkeypatch.setattr("conv_dlm.generation.denoiser.upload", uploading)
    prompt = BATCH[:rows] if rows > 1 else BATCH[1:2]
    tiny_llada.generate(
        prompt, attention_mask=(prompt != PAD).long(), max_new_tokens=24, eos_token_id=[EOS, *range(250, 260)],
        pad_token_id=PAD, callback_on_step_end=lambda _: steps.append(len(asked)), **ASKED[name],
    )  # fmt: skip
    monkeypatch.undo()
    assert len(steps) > 3
    each = [asked[before:after] for before, after in itertools.pairwise(steps)]
    assert all(questions == ["tolist"] for questions in each), each
    assert max(Counter(sets).values(), default=0) <= 3  # for the canvas, for the cache, and when others leave it


@pytest.mark.gpu
@pytest.mark.parametrize("name", ASKED)
def test_a_gpu_is_waited_for_once_a_step(make_llada, name, monkeypatch):
    """Whatever else would wait is an error of PyTorch's."""
    model = make_llada().to("cuda")
    ids = BATCH.cuda()
    settings = dict(attention_mask=(ids != PAD).long(), max_new_tokens=24, eos_token_id=EOS, pad_token_id=PAD)
    read, reads = plan._read, []

    def allowed(request):
        torch.cuda.set_sync_debug_mode("default")
        reads.append(1)
        told = read(request)
        torch.cuda.set_sync_debug_mode("error")
        return told

    model.generate(ids, **settings, **ASKED[name])  # what libraries do at their first call
    monkeypatch.setattr(plan, "_read", allowed)
    run = prepare(model, ids, **settings, **ASKED[name]).run
    seeds = row_seeds(torch.Generator().manual_seed(0), len(ids), ids.device)
    try:
        torch.cuda.set_sync_debug_mode("error")
        run.run(seeds)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert 0 <= len(reads) - run.steps_done <= 2 and not bool(run.canvas.masked.any())
