"""How honest clients fare at a server among strangers, beside a quiet one.

    python -m benchmarks.serving_load --seconds 600 --quiet-seconds 120 --results outputs/serving_load.json

`conv-dlm serve` runs in a process of its own. `--honest` clients ask it, each its next question when the last is
answered: for `--quiet-seconds` alone, then for `--seconds` beside clients that stall in the middle of a request,
connections that never send a byte, and bodies of every kind; all of these come back as soon as they are dropped. Every
honest answer has its own seed, and must be the same in both parts. The latency is from the connection to the last byte.
At the end the server is stopped, and has to end by itself.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conv_dlm.utils.environment import describe_run
from conv_dlm.utils.files import write_json

HEAD = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
UNFINISHED = (
    b"",
    b"POST /v1/comp",
    f"{HEAD}Content-Length: 1000\r\n\r\n{{".encode(),
    f"{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\n{{".encode(),
)
BODIES = (
    b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"prompt": "a", "n": 100000}',
    b'{"prompt": ' + b"1" * 5000, b'{"prompt": "\\ud83d", "max_tokens": 0}', b'{"prompt": "a", "steps": 1e999}',
    b'{"messages": {}}',
    b'{"prompt": "' + b"a" * 900_000 + b'"}', b'{"prompt": "' + b"a" * 2_000_000 + b'"}',
    b'{"prompt": [' + b'"a",' * 100_000 + b'"a"]}', b'{"prompt": "a", "structured_outputs": {"regex": "(a*)*("}}',
)  # fmt: skip


@dataclass
class Honest:
    """What honest clients saw: seconds of each answer, its text by its seed, and what was none."""

    seconds: list[float] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        ranked = sorted(self.seconds)
        found: dict[str, float] = {"answers": len(ranked), "failures": len(self.failures)}
        if not ranked:
            return found
        return found | {f"p{share}": round(ranked[len(ranked) * share // 100], 3) for share in (50, 90, 99)}


async def asked(port: int, body: bytes, path: str = "/v1/completions", limit: float = 300) -> tuple[int, bytes]:
    """Status and body of an answer, on a connection of its own."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), limit)
    try:
        head = HEAD.replace("/v1/completions", path) + f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        data = await asyncio.wait_for(reader.read(), limit)
    finally:
        writer.close()
    head_line, _, rest = data.partition(b"\r\n\r\n")
    return int(head_line.split()[1]), rest


async def be_honest(port: int, number: int, end: float, tokens: int, seen: Honest) -> None:
    """Ask until the `end`; a full queue is no failure, but a reason to wait."""
    count = 0
    while time.monotonic() < end:
        seed = number * 1_000_000 + count
        asks = {"prompt": f"question {number}", "seed": seed, "max_tokens": tokens, "steps": tokens}
        body = json.dumps(asks).encode()
        begun = time.monotonic()
        try:
            status, rest = await asked(port, body)
            if status in (429, 503):
                await asyncio.sleep(0.2)
                continue
            seen.texts[seed] = json.loads(rest)["choices"][0]["text"]
            seen.seconds.append(time.monotonic() - begun)
            count += 1
        except (OSError, ValueError, KeyError, IndexError, TimeoutError) as error:
            seen.failures.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(0.2)


async def be_rude(port: int, data: bytes, end: float, drops: list[int]) -> None:
    """Keep a connection that owes something, and come back when it is dropped."""
    while time.monotonic() < end:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            try:
                await asyncio.wait_for(reader.read(), max(0.1, end - time.monotonic()))
                drops[0] += 1
            finally:
                writer.close()
        except (OSError, TimeoutError):
            pass
        await asyncio.sleep(1)


async def be_strange(port: int, end: float, statuses: dict[str, int]) -> None:
    """Send bodies of every kind."""
    draw = random.Random(0)
    while time.monotonic() < end:
        body = draw.choice(BODIES)
        try:
            status, _ = await asked(port, body, draw.choice(("/v1/completions", "/v1/chat/completions")), 60)
            name = str(status)
        except (OSError, ValueError, IndexError, TimeoutError) as error:
            name = type(error).__name__
        statuses[name] = statuses.get(name, 0) + 1
        await asyncio.sleep(0.05)


async def part(port: int, args: argparse.Namespace, seconds: float, loud: bool) -> tuple[Honest, dict[str, Any]]:
    """One of the two parts."""
    end, seen = time.monotonic() + seconds, Honest()
    drops, statuses = [0], dict[str, int]()
    tasks = []
    if loud:
        tasks += [be_rude(port, UNFINISHED[1 + number % 3], end, drops) for number in range(args.stalled)]
        tasks += [be_rude(port, b"", end, drops) for _ in range(args.idle)]
        tasks += [be_strange(port, end, statuses) for _ in range(args.strange)]
    tasks += [be_honest(port, number, end, args.max_tokens, seen) for number in range(args.honest)]
    await asyncio.gather(*tasks)
    return seen, {"dropped_connections": drops[0], "statuses_of_strange_bodies": statuses} if loud else {}


def start(args: argparse.Namespace) -> tuple["subprocess.Popen[str]", int]:
    """The server, ready, and its port; its log goes to a file."""
    command = [sys.executable, "-m", "conv_dlm", "serve", "--port", "0", "--max-queue", str(2 * args.honest)]
    command += ["--device", args.device] + ([] if args.model is None else ["--model", args.model])
    args.results.parent.mkdir(parents=True, exist_ok=True)
    log = args.results.with_suffix(".log")
    with log.open("w") as file:
        server = subprocess.Popen(command, stderr=file, text=True)
    while "/v1; ask it" not in (told := log.read_text(encoding="utf-8", errors="replace")):
        if server.poll() is not None:
            raise RuntimeError(f"The server did not start: {told}")
        time.sleep(0.2)
    return server, int(told.partition("http://127.0.0.1:")[2].partition("/")[0])


def stop(server: "subprocess.Popen[str]") -> float:
    """Stop the server; the seconds that it took."""
    begun = time.monotonic()
    server.send_signal(signal.SIGTERM)
    server.wait(120)
    return time.monotonic() - begun


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Both parts, and the end."""
    raise_limit()
    server, port = start(args)
    try:
        quiet, _ = asyncio.run(part(port, args, args.quiet_seconds, loud=False))
        loud, others = asyncio.run(part(port, args, args.seconds, loud=True))
        memory = peak_memory(server.pid)
        seconds = stop(server)
    finally:
        server.kill()
        server.wait()
    both = quiet.texts.keys() & loud.texts.keys()
    log = args.results.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
    return {
        "quiet": quiet.figures(),
        "among_strangers": loud.figures() | others,
        "answers_in_both": len(both),
        "different_answers": sum(quiet.texts[seed] != loud.texts[seed] for seed in both),
        "failures": (quiet.failures + loud.failures)[:10],
        "server": {
            "exit_code": server.returncode, "seconds_to_stop": round(seconds, 1), "peak_megabytes": memory,
            "log_lines": len(log.splitlines()), "tracebacks": log.count("Traceback"),
        },
    }  # fmt: skip


def raise_limit() -> None:
    """Enough open files for all clients."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if soft != resource.RLIM_INFINITY else soft, hard))


def peak_memory(process: int) -> float | None:
    """Megabytes of a process at its largest, where the system says."""
    status = Path(f"/proc/{process}/status")
    if not status.is_file():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return round(int(lines["VmHWM"].split()[0]) / 1000)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", help="name on the Hub or folder (default: the embedded model)")
    add("--device", default="cpu")
    add("--seconds", type=float, default=600, help="among strangers")
    add("--quiet-seconds", type=float, default=600, help="alone")
    add("--honest", type=int, default=50)
    add("--stalled", type=int, default=200)
    add("--idle", type=int, default=2000)
    add("--strange", type=int, default=4, help="clients that send bodies of every kind")
    add("--max-tokens", type=int, default=16)
    add("--results", type=Path, default=Path("outputs/serving_load.json"))
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    found = run(args)
    names = ("seconds", "quiet_seconds", "honest", "stalled", "idle", "strange", "max_tokens")
    told = describe_run("python -m benchmarks.serving_load", args.device)
    write_json(args.results, told | {name: getattr(args, name) for name in names} | found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
