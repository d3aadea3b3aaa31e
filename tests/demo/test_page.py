"""The page in a real browser: what a visitor does, and that the browser has nothing to complain about."""

import itertools
import os
import re
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from conv_dlm.demo.recording import Recording
from conv_dlm.word_problems import problem
from hub_cards.space.screenshots import BROWSER_OPTIONS, find_browser

pytestmark = [
    pytest.mark.skipif(find_spec("gradio") is None, reason="needs gradio"),  # not imported by each worker
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),  # Gradio 6, of pandas
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]
sync_api = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def address(tiny_checkpoint: Path) -> Iterator[str]:
    """Of the page, with the tiny model."""
    from conv_dlm.demo.job import JobQueue
    from conv_dlm.demo.page import LAUNCH, build, theme

    jobs = JobQueue([str(tiny_checkpoint)])
    page = build(jobs)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, theme=theme(), **LAUNCH)
    yield url
    jobs.close()
    page.close(verbose=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = find_browser()
    if path is None:
        reason = "there is no Chromium: `make browser` installs Debian's"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=BROWSER_OPTIONS)
        yield browser
        browser.close()


class Visitor:
    """Somebody with a page of their own. `complaints` has what the browser says, and requests to other places."""

    def __init__(self, browser: Any, address: str) -> None:
        self.complaints: list[str] = []
        self.page = browser.new_page(viewport={"width": 1280, "height": 900})
        self.page.set_default_timeout(60_000)  # for machines that are busy with other tests
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.check(request.url, address))
        self.page.goto(address)
        self.page.wait_for_selector("#begin")

    def check(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            self.complaints.append(f"request to {url}")

    def fill(self, **fields: str) -> None:
        for name, value in fields.items():
            self.page.fill(f"#{name} input, #{name} textarea", value)

    def choose(self, label: str, value: str) -> None:
        self.page.get_by_label(label, exact=True).click()
        self.page.click(f"[role=option][aria-label='{value}']")
        self.page.wait_for_selector("[role=option]", state="detached")

    def begin(self) -> None:
        self.page.click("#begin")

    def see_it_begin(self) -> None:
        self.page.wait_for_selector(".token", state="attached")  # it may have no width: a space, a control character

    def finish(self, runs: int = 1) -> None:
        """Wait for the end of the first job."""
        self.page.wait_for_function(f"document.querySelectorAll('dl').length == {runs}")
        self.page.wait_for_selector("#begin:enabled")

    def replay(self, step: int) -> None:
        """Move the slider as a hand does, and wait for the canvas to follow."""
        self.page.locator("#replay input[type=range]").fill(str(step))
        self.page.wait_for_selector(f".at:text-matches('^after step {step} of')")

    def text(self, selector: str = ".canvas") -> str:
        return str(self.page.locator(selector).first.inner_text())

    def texts(self, selector: str) -> list[str]:
        return list(self.page.locator(selector).all_inner_texts())


@pytest.fixture
def visitors(browser: Any, address: str) -> Iterator[Any]:
    """`visitors()`: another one. In the end nobody's browser may have complained."""
    all_of_them: list[Visitor] = []

    def come() -> Visitor:
        all_of_them.append(Visitor(browser, address))
        return all_of_them[-1]

    yield come
    complaints = [complaint for visitor in all_of_them for complaint in visitor.complaints]
    for visitor in all_of_them:
        visitor.page.close()
    assert complaints == []


def test_a_new_problem_is_asked_and_checked(visitors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # one that the tiny model's context of 256 bytes has room for, which not every problem has
    short = next(n for n in itertools.count() if len(problem(0, n, split="test", levels=(1, 3)).question) < 150)
    monkeypatch.setattr("conv_dlm.demo.page.secrets.randbelow", lambda _: short)
    ben = visitors()
    before = ben.page.input_value("#prompt textarea")
    ben.page.click("#new")
    ben.page.wait_for_function(f"document.querySelector('#prompt textarea').value != {before!r}")
    assert ben.page.input_value("#prompt textarea").endswith(("?", "."))
    ben.fill(steps="4", canvas="16")
    ben.begin()
    ben.finish()
    assert ben.text(".verdict").startswith("wrong: the answer is ")
    ben.fill(prompt="What is 2 + 3?")
    ben.begin()
    ben.page.wait_for_selector(".verdict", state="detached")


def test_an_answer_has_the_form_that_was_asked_for(visitors: Any) -> None:
    clara = visitors()
    clara.fill(prompt="Hello", steps="4", canvas="24", form=r"[0-9]{3} kg")
    clara.begin()
    clara.finish()
    assert re.fullmatch(r"\d{3}.kg", clara.text().replace("\n", " ").strip()[:6]), clara.text()
    clara.fill(form='{"type": "string", "not": {}}')
    clara.begin()
    clara.page.wait_for_selector("#note :text('Form: `not` at #')")


def test_a_run_and_its_replay(visitors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, put_draft = threading.Semaphore(0), Recording.put_draft

    def hold(recording: Recording, *args: Any, **kwargs: Any) -> None:
        put_draft(recording, *args, **kwargs)
        assert recording.steps not in (1, 10, 20) or seen.acquire(timeout=60)

    monkeypatch.setattr(Recording, "put_draft", hold)
    anna = visitors()
    anna.fill(steps="48", canvas="32")
    anna.fill(prompt="What is 2 + 3?")
    anna.begin()
    for step in (1, 10, 20):  # the canvas is seen on its way
        anna.page.wait_for_selector(f".at:text-matches('^after step {step} ')")
        seen.release()
    anna.finish()
    last = anna.text()
    assert "·" not in last and len(last) > 8
    figures = " ".join(anna.text("dl").split())
    assert re.fullmatch(r"tokens \d+ forwards \d+ tokens per forward [\d.]+ seconds [\d.]+", figures)
    assert anna.page.locator(".plot circle").count() > 8

    anna.replay(0)
    assert set(anna.text().replace("\n", "")) == {"·"}
    anna.replay(30)
    half = anna.text()
    assert "·" in half and len(set(half)) > 1
    steps = anna.page.locator(".canvas .token").evaluate_all("all => all.map((one) => parseInt(one.title.slice(5)))")
    assert steps and max(steps) <= 30
    assert anna.page.locator(".canvas .token.new").count() == steps.count(30)
    anna.replay(int(anna.page.get_attribute("#replay input[type=range]", "max")))
    assert anna.text() == last


def test_two_decode_types_side_by_side(visitors: Any) -> None:
    anna = visitors()
    anna.choose("Beside it", "topk")
    anna.fill(steps="8", canvas="16")
    anna.begin()
    anna.finish(runs=2)
    assert anna.texts(".run h3") == ["conv", "topk"]
    left, right = (anna.page.locator(".canvas").nth(place).bounding_box() for place in (0, 1))
    assert left["y"] == right["y"] and left["x"] + left["width"] < right["x"]
    anna.replay(3)
    assert all("·" in text for text in anna.texts(".canvas"))
    anna.page.set_viewport_size({"width": 390, "height": 844})
    upper, lower = (anna.page.locator(".canvas").nth(place).bounding_box() for place in (0, 1))
    assert upper["y"] + upper["height"] < lower["y"]
    assert anna.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_settings_are_those_of_the_decode_types(visitors: Any) -> None:
    anna = visitors()
    anna.choose("Decode type", "conv_threshold")
    anna.page.wait_for_selector("#steps input:disabled")
    assert anna.page.locator("#kernel input").is_enabled()
    anna.choose("Decode type", "topk")
    anna.page.wait_for_selector("#kernel input:disabled")
    assert anna.page.locator("#steps input").is_enabled()
    anna.choose("Beside it", "llada")
    anna.page.wait_for_selector("#kernel:has-text('Block') input:enabled")


def test_mistakes_are_explained(visitors: Any) -> None:
    anna = visitors()
    for fields, said in (
        ({"prompt": "  "}, "The prompt is empty"),
        ({"prompt": "long " * 400}, "the model's is 256; shorten the prompt"),
        ({"prompt": "short", "steps": "0"}, "Steps: 0 must be a whole number from 1 to 512"),
    ):
        anna.fill(**fields)
        anna.begin()
        anna.page.wait_for_function(f"document.querySelector('.problem')?.textContent.includes(`{said}`)")
        assert "Traceback" not in anna.text("body") and anna.page.locator(".run").count() == 0
    anna.fill(steps="4", canvas="8")
    anna.begin()
    anna.finish()
    assert "·" not in anna.text() and anna.page.locator(".message").count() == 0


def test_stop(visitors: Any, long: int) -> None:
    anna = visitors()
    anna.fill(steps=str(long), canvas="120")
    anna.begin()
    anna.see_it_begin()
    assert anna.page.locator("#begin").is_disabled()
    anna.page.click("#stop")
    anna.page.wait_for_selector(".message:has-text('Stopped after')")
    anna.page.wait_for_selector("#begin:enabled")
    assert "·" in anna.text()
    anna.replay(1)


def test_two_visitors_at_once(visitors: Any, long: int) -> None:
    """The second waits for the first, who leaves; both have their own."""
    anna, bob = visitors(), visitors()
    anna.fill(steps=str(long), canvas="120")
    anna.begin()
    anna.see_it_begin()
    bob.choose("Decode type", "topk")
    bob.fill(steps="8", canvas="16", seed="3")
    bob.begin()
    bob.page.wait_for_selector(".message:has-text('Another run is at work')")
    anna.page.close()
    bob.finish()
    assert "·" not in bob.text() and bob.texts(".run h3") == ["topk"]


def test_examples(visitors: Any) -> None:
    anna = visitors()
    anna.page.get_by_text("Tom's pencils").click()
    anna.page.wait_for_function("document.querySelector('#prompt textarea').value.startsWith('Tom has 3 boxes')")


def test_a_guess_is_seen_by_keyboard(visitors: Any) -> None:
    anna = visitors()
    anna.choose("Decode type", "topk")
    anna.fill(steps="8", canvas="16")
    anna.begin()
    anna.finish()
    anna.replay(2)
    dot = anna.page.locator(".open").first
    dot.focus()
    shown = dot.evaluate("one => getComputedStyle(one, '::after').content")
    assert shown not in ("none", "normal") and dot.get_attribute("title")
