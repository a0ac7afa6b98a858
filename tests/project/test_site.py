"""The site in a browser, where one has been made: BNSTREAM_SITE names its folder. Needs playwright and Chromium."""

import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

SITE = os.environ.get("BNSTREAM_SITE")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAGES = {       # and how many pictures each has at least
    "index.html": 0, "tutorials/small-network.html": 3, "tutorials/stream-of-files.html": 1,
    "tutorials/images.html": 1, "tutorials/many-workers.html": 0,
    "tutorials/reinforcement-learning.html": 1,
    "explanation/index.html": 0, "explanation/variance.html": 3, "explanation/bounds.html": 0,
    "explanation/sameness.html": 0, "explanation/memory.html": 1, "explanation/house.html": 0,
    "reference/generated/bnstream.Moments.html": 0, "reference/command.html": 0, "benchmarks.html": 1,
    "history/index.html": 8,
    "reference/file-format.html": 0, "changelog.html": 0, "how-to/index.html": 0, "how-to/recalibrate.html": 0,
    "how-to/small-batches.html": 0, "how-to/merge-and-subtract.html": 0, "how-to/masks-and-weights.html": 0,
    "how-to/reproduce-bits.html": 0, "how-to/threads.html": 0, "dependencies.html": 0,
}
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
LOADED = "() => [...document.images].filter(i => !i.complete || i.naturalWidth === 0).map(i => i.src)"

pytestmark = [pytest.mark.skipif(not SITE, reason="BNSTREAM_SITE names no site"),
              pytest.mark.skipif(not BROWSER, reason="there is no Chromium")]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with api.sync_playwright() as play:
        try:
            browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"{BROWSER} does not start: {error}")
        yield browser
        browser.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("colors", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440])
def test_page(browser, address, name, colors, width):
    """Nothing is logged as an error, pictures are there, and the page fits."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=colors)
    page = context.new_page()
    faults = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("response", lambda answer: faults.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    page.goto(f"{address}/{name}", wait_until="load")
    assert page.evaluate("() => document.documentElement.dataset.theme") == colors
    assert faults == []
    assert page.evaluate(LOADED) == []
    assert page.locator("main img").count() >= PAGES[name]
    assert page.locator("main h1").count() == 1
    assert page.evaluate(OVERFLOW) <= 0
    context.close()


@pytest.mark.parametrize(("way", "end"), [
    (["Reference", "Arrays and batches", "mean_var"], "/reference/generated/bnstream.mean_var.html#bnstream.mean_var"),
    (["Conventions", "Momentum, ddof and eps"], "/conventions.html#momentum-ddof-and-eps"),
    (["Conventions", "Accuracy"], "/conventions.html#accuracy"),
    (["Files"], "/files.html"),
    (["How to", "Merge and subtract statistics"], "/how-to/merge-and-subtract.html"),
    (["How to", "Recalibrate a layer"], "/how-to/recalibrate.html"),
    (["How to", "The format of state files"], "/reference/file-format.html"),
    (["Reference", "The format of state files"], "/reference/file-format.html"),
    (["scikit-learn"], "/adapters/scikit-learn.html"),
    (["History"], "/history/index.html"),
])
def test_what_a_newcomer_looks_for_is_near_the_front_page(browser, address, way, end):
    page = browser.new_page()
    page.goto(f"{address}/index.html")
    for link in way:
        page.locator("main a:visible, aside a:visible, .bd-sidebar-secondary a:visible").get_by_text(link, exact=True) \
            .first.click()
    assert page.url == address + end
    page.close()
