"""What a constraint costs beside the model: compiling it, and a step's work on the CPU.

    python -m benchmarks.constraints --results benchmarks/results/constraints_cpu.json

Vocabularies are made up: all bytes, digits, brackets of JSON, and words, capitals, CJK, Cyrillic and punctuation of
natural lengths. A canvas of one row is unmasked one position at a time in random order, each with a random allowed
class; a step is both passes over the row and the allowed classes of all its masked positions.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from conv_dlm.constraints.byte_automaton import byte_automaton
from conv_dlm.constraints.feasibility import OPEN, StateSets
from conv_dlm.constraints.json_schema import schema_expression
from conv_dlm.constraints.token_automaton import TokenAutomaton, token_automaton
from conv_dlm.utils.environment import describe_run
from conv_dlm.utils.files import write_json

TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}


def members(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def listed(items: Any, **limits: int) -> dict[str, Any]:
    return {"type": "array", "items": items, **limits}


def matching(pattern: str) -> dict[str, str]:
    return {"type": "string", "pattern": pattern}


def form(name: str) -> dict[str, str]:
    return {"type": "string", "format": name}


SCHEMAS: dict[str, Any] = {
    "person": members(name=TEXT, age={**WHOLE, "minimum": 0, "maximum": 150}, email=form("email")),
    "word problem": members(numbers=listed(NUMBER), unit=TEXT, answer=WHOLE),
    "tool call": members(
        name={"enum": ["search", "open", "mail"]}, arguments={"type": "object", "additionalProperties": TEXT}
    ),
    "invoice": members(
        number=matching("^INV-[0-9]{4,8}$"), date=form("date"), total=NUMBER,
        lines=listed(members(what=TEXT, count={**WHOLE, "minimum": 1}, price={**NUMBER, "minimum": 0})),
    ),
    "strings of bounded length": members(
        title={**TEXT, "maxLength": 60}, tags=listed({**TEXT, "maxLength": 16}, maxItems=3)
    ),
    "tree, 3 deep": {"$ref": "#/$defs/n", "$defs": {"n": members(v=WHOLE, kids=listed({"$ref": "#/$defs/n"}))}},
    "steps and answer": members(steps=listed(members(explanation=TEXT, output=TEXT)), final_answer=TEXT),
    "labels": listed({"enum": ["positive", "negative", "neutral", "mixed"]}, minItems=1, maxItems=5),
    "address": members(
        street=TEXT, city=TEXT, zip=matching("^[0-9]{5}$"), country={"enum": ["DE", "FR", "US", "JP"]},
        latitude={**NUMBER, "minimum": -90, "maximum": 90}, longitude={**NUMBER, "minimum": -180, "maximum": 180},
    ),
    "event": members(
        id=form("uuid"), at=form("date-time"), ok={"type": "boolean"}, note={"anyOf": [TEXT, {"type": "null"}]}
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[126_000, 152_000])
    parser.add_argument("--length", type=int, default=256, help="positions of the canvas (default: 256)")
    args = parser.parse_args()
    rows = []
    for size in args.vocabularies:
        tokens = vocabulary(size)
        for name, schema in SCHEMAS.items():
            rows.append({"vocabulary": size, "schema": name, **measured(schema, tokens, args.length)})
            print(rows[-1], flush=True)
    write_json(
        args.results,
        {"run": describe_run("python -m benchmarks.constraints", "cpu"), "length": args.length, "rows": rows},
    )


def measured(schema: Any, tokens: list[bytes | None], length: int) -> dict[str, Any]:
    """Sizes of the automaton, seconds to compile it, and milliseconds of a step."""
    started = time.perf_counter()
    byte_automaton.cache_clear()
    automaton = token_automaton(byte_automaton(schema_expression(schema, 3, " ?")), [*tokens, None], (len(tokens),))
    automaton.classes_of_edges  # noqa: B018 (it is made when it is first asked for)
    compiling = time.perf_counter() - started
    steps = unmasking_times(automaton, length)
    return {
        "states": automaton.states,
        "classes": automaton.classes,
        "pairs": len(automaton.edges[0]),
        "compile_s": round(compiling, 2),
        "step_ms": {
            "median": round(statistics.median(steps), 3), "mean": round(statistics.mean(steps), 3),
            "longest": round(max(steps), 1),
        },
    }  # fmt: skip


def unmasking_times(automaton: TokenAutomaton, length: int) -> list[float]:
    """Milliseconds of each step of a canvas that is unmasked in random order."""
    rng, sets, line, times = random.Random(1), StateSets(automaton), [OPEN] * length, []
    sizes = np.bincount(automaton.token_class, minlength=automaton.classes)
    for position in rng.sample(range(length), length):
        started = time.perf_counter()
        ahead, back = sets.forwards(line), sets.backwards(line)
        for place, class_ in enumerate(line):
            if class_ == OPEN:
                sets.allowed(ahead[place], back[place + 1])
        times.append(1000 * (time.perf_counter() - started))
        allowed = np.flatnonzero(sets.allowed(ahead[position], back[position + 1]))
        line[position] = rng.choices(allowed.tolist(), sizes[allowed].tolist())[0]
    return times


def vocabulary(size: int) -> list[bytes | None]:
    """`size` different tokens, made up; the same every time."""
    rng = random.Random(0)
    syllables = [rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") + rng.choice("nrstl") for _ in range(200)]

    def word(longest: int) -> str:
        return rng.choice(["", " "]) + "".join(rng.choice(syllables) for _ in range(rng.randint(1, longest)))

    def letters(first: int, last: int, longest: int) -> str:
        return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, longest)))

    kinds: list[Callable[[], str]] = [
        lambda: word(4),
        lambda: word(3).title(),
        lambda: letters(0x4E00, 0x9FFF, 3),
        lambda: letters(0x430, 0x44F, 6),
        lambda: "".join(rng.choice("(){}[]<>;:,.\"'=+-*/\\_ \n\t") for _ in range(rng.randint(2, 5))),
    ]
    tokens = dict.fromkeys(bytes([byte]) for byte in range(256))
    json_pieces = ['{"', '":', '",', '"}', '": "', '", "', ' "', "true", "false", "null", "},", "],", "[{", "}]"]
    tokens |= dict.fromkeys(text.encode() for text in (*json_pieces, *map(str, range(1000))))
    while len(tokens) < size:
        tokens[rng.choices(kinds, [5, 2, 2, 2, 1])[0]().encode()] = None
    return list(tokens)


if __name__ == "__main__":
    main()
