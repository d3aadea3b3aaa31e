"""A place where Transformers is installed, and nothing of this project; and a Hub that runs here."""

import itertools
import json
import os
import subprocess
import venv
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import Distribution, distribution
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import pytest
from packaging.requirements import Requirement

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def with_requirements(name: str, found: dict[str, Distribution] | None = None) -> dict[str, Distribution]:
    """An installed distribution and all that it requires, by name."""
    found = {} if found is None else found
    if name not in found:
        found[name] = distribution(name)
        for line in found[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                with_requirements(requirement.name.lower().replace("_", "-"), found)
    return found


# Imports what takes seconds, once, and runs each code that it is sent in a fork.
IN_FORKS = """
import gc, json, os, sys, traceback
gc.disable()
import torch
import transformers.models.llama.modeling_llama
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

gc.freeze()
gc.enable()
for line in sys.stdin:
    code, *files = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitpid(child, 0)[1], flush=True)
        continue
    status = 1
    try:
        for stream, file in enumerate(files, 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream)
        exec(code, {})
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
"""


class Alone:
    """`alone(code)`: what the code prints, where nothing but Transformers, PyTorch and their requirements is installed.

    `hub` is where the files of the Hub's repositories are, of which there are none yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.hub, self.codes = folder, folder / "home" / "hub", itertools.count()
        venv.create(folder / "env")
        (packages,), (python,) = ((folder / "env").glob(name) for name in ("**/site-packages", "*/python"))
        for each in with_requirements("torch", with_requirements("transformers")).values():
            for part in {file.parts[0] for file in each.files or () if file.parts[0] != ".."}:
                if not (packages / part).exists():
                    (packages / part).symlink_to(Path(str(each.locate_file(part))))
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        settings = {"HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [python, "-c", IN_FORKS], cwd=folder, env=inherited | settings, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(folder / "messages").open("w"),
        )  # fmt: skip

    def __call__(self, code: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        number = next(self.codes)
        out, err = (self.folder / f"{name}-{number}" for name in ("out", "err"))
        print(json.dumps([code, str(out), str(err)]), file=self.process.stdin, flush=True)
        status = self.process.stdout.readline()
        assert status == "0\n", (status or (self.folder / "messages").read_text())[-1000:] + err.read_text()[-3000:]
        return out.read_text()


@pytest.fixture(scope="session")
def transformers_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    """An [`Alone`] in a new virtual environment, which all tests share."""
    alone = Alone(tmp_path_factory.mktemp("transformers-alone"))
    yield alone
    alone.process.communicate()  # the end of its input is its end


class LocalHub(ThreadingHTTPServer):
    """The few addresses of the Hub that an upload asks for.

    repos: files by name in each repository, by its type and name. refused: what it says of a card, if anything.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.repos: dict[tuple[str, str], dict[str, bytes]] = {}
        self.created: list[dict[str, Any]] = []
        self.commits: list[dict[str, Any]] = []
        self.refused: str | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: LocalHub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        if path == "/api/validate-yaml":
            refused = self.server.refused
            self._answer({} if refused is None else refused, 200 if refused is None else 400)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            self.server.created.append(asked)
            kind, name = asked.get("type", "model"), "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.server.repos.setdefault((kind, name), {})
            self._answer({"url": f"{self.server.address}/{'spaces/' if kind == 'space' else ''}{name}"})
        elif path.endswith("/discussions"):
            self._answer({"num": 1})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            self._answer(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        elif "/commit/" in path:
            _, _, kinds, *name, _, _ = path.split("/")
            lines = [json.loads(line) for line in body.splitlines()]
            files = {line["value"]["path"]: b64decode(line["value"]["content"]) for line in lines[1:]}
            self.server.repos[kinds[:-1], "/".join(name)].update(files)
            self.server.commits.append(lines[0]["value"] | {"revision": unquote(path.split("/")[-1])})
            self._answer({"commitUrl": f"{self.server.address}/{'/'.join(name)}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self._answer({"error": f"no {path} here"}, 404)

    def do_GET(self) -> None:
        if "/discussions/" in self.path:
            name = "/".join(self.path.split("/")[3:-2])
            about = {"title": "", "num": 1, "status": "open", "createdAt": "2026-01-01T00:00:00.000Z", "events": []}
            about |= {"repo": {"name": name, "type": "model"}, "isPullRequest": True, "filesWithConflicts": []}
            self._answer(about | {"changes": {"base": "refs/heads/main"}})
        else:
            self._answer({"error": f"no {self.path} here"}, 404)

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()

    def _answer(self, content: Any, status: int = 200) -> None:
        payload = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A Hub on this machine that everything of `huggingface_hub` in this process talks to."""
    import huggingface_hub
    from huggingface_hub import constants
    from transformers.utils import hub as hub_of_transformers

    with LocalHub() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", server.address)
        monkeypatch.setattr(hub_of_transformers, "_hf_api", None)  # has another address
        monkeypatch.setenv("HF_TOKEN", "hf_anything")
        yield server
        server.shutdown()
