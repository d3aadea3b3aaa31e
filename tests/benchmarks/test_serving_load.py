"""The load has all kinds of clients, and the answers of honest ones are looked at."""

import argparse
import asyncio
import contextlib
import json

from benchmarks import serving_load


def test_both_parts(serve, make_llada, tiny_tokenizer):
    args = argparse.Namespace(honest=3, stalled=6, idle=6, strange=1, max_tokens=4)
    with serve(make_llada(), tiny_tokenizer) as address:
        port = int(address.rpartition(":")[2])
        quiet, _ = asyncio.run(serving_load.part(port, args, 1.5, loud=False))
        loud, others = asyncio.run(serving_load.part(port, args, 1.5, loud=True))
    both = quiet.texts.keys() & loud.texts.keys()
    assert both and all(quiet.texts[seed] == loud.texts[seed] for seed in both)
    assert not quiet.failures + loud.failures and quiet.figures()["p99"] >= quiet.figures()["p50"] > 0
    assert others["statuses_of_strange_bodies"].keys() <= {"400", "413", "422"}


def test_bodies_are_of_every_kind():
    valid = 0
    for body in serving_load.BODIES:
        with contextlib.suppress(ValueError, RecursionError):
            valid += isinstance(json.loads(body), dict)
    assert 0 < valid < len(serving_load.BODIES)
