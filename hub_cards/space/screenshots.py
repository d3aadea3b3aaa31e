"""Makes the pictures of the page in docs/images anew, with the embedded model and a Chromium of this machine.

    python hub_cards/space/screenshots.py

Needs the extras `demo` and `dev`.
"""

import shutil
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
STEP = 24  # at which the replay is shown
PATIENCE = 300_000  # milliseconds for a run, on a busy machine
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_browser() -> str | None:
    """The path of a Chromium that the system brings."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def main() -> None:
    from playwright.sync_api import sync_playwright

    from conv_dlm.answering.embedded import EMBEDDED_NAME
    from conv_dlm.demo.job import JobQueue
    from conv_dlm.demo.page import LAUNCH, build, theme

    jobs = JobQueue([EMBEDDED_NAME])
    page = build(jobs)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, theme=theme(), **LAUNCH)
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=BROWSER_OPTIONS)
        for name, (width, height) in SIZES.items():
            take(browser.new_page(viewport={"width": width, "height": height}), url, IMAGES / f"demo-{name}.png")
        browser.close()
    jobs.close()
    page.close(verbose=False)


def take(page: Any, url: str, path: Path) -> None:
    """Run two decode types side by side, go back to `STEP`, and save the whole page."""
    page.goto(url)
    page.get_by_label("Beside it", exact=True).click()
    page.click("[role=option][aria-label='topk']")
    page.click("#begin")
    page.wait_for_function("document.querySelectorAll('dl').length == 2", timeout=PATIENCE)
    page.wait_for_selector("#begin:enabled")
    page.locator("#replay input[type=range]").fill(str(STEP))
    page.wait_for_selector(f".at:text-matches('^after step {STEP} of')")
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)  # until what the mouse has touched is as before
    page.screenshot(path=path, full_page=True)
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
