"""The page of ``nstx serve`` in a browser: from upload to download by the keyboard alone, and what axe says of it.

``scripts/page`` installs what it needs; with ``--shots DIR`` it keeps a picture of each state.
"""

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pictures import random_pixels
from PIL import Image
from processes import PATIENCE

pytestmark = pytest.mark.browser

WIDTHS = {"desktop": (1280, 800), "phone": (390, 844)}
MILLISECONDS = 120_000
BAD = {"serious", "critical"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: scripts/page does"
    )
    pytest.importorskip(
        "axe_playwright_python", reason="axe-playwright-python is not installed: scripts/page does"
    )
    program = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if program is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        # Chromium's own sandbox does not work in most containers; the page is ours.
        opened = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that makes pictures."""
    state = tmp_path_factory.mktemp("state")
    command = [
        sys.executable,
        "-m",
        "nstx",
        "serve",
        "--state",
        state,
        "--workers",
        1,
        "--port",
        0,
        "--json",
    ]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        match = re.search(r"http://[\d.]+:\d+", server.stdout.readline())
        assert match
        yield match[0]
        server.terminate()
        assert server.wait(PATIENCE) == 143  # SIGTERM's


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = {"photo": folder / "<b>photo.png", "style": folder / "painting.png"}
    for seed, path in enumerate(paths.values()):
        Image.fromarray(random_pixels(48, 64, seed).astype("uint8")).save(path)
    return paths


@pytest.fixture(params=WIDTHS)
def page(request: pytest.FixtureRequest, browser: Any) -> Iterator[Any]:
    width, height = WIDTHS[request.param]
    context = browser.new_context(
        viewport={"width": width, "height": height}, reduced_motion="reduce", accept_downloads=True
    )
    context.set_default_timeout(MILLISECONDS)
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on(
        "console",
        lambda message: faults.append(message.text) if "Content Security" in message.text else None,
    )
    yield opened
    context.close()
    assert not faults


def tab_to(page: Any, selector: str, key: str = "Tab") -> None:
    """Go by keyboard to an element, as whoever has no mouse does."""
    for _ in range(150):
        if page.evaluate("name => document.activeElement.matches(name)", selector):
            return
        page.keyboard.press(key)
    pytest.fail(f"the keyboard does not come to {selector}")


def choose(page: Any, selector: str, path: Path) -> None:
    tab_to(page, selector)
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(path)


def write_number(page: Any, selector: str, value: object) -> None:
    tab_to(page, selector)
    page.keyboard.press("Control+a")
    page.keyboard.type(str(value))


def check_access(page: Any, state: str) -> None:
    """Have axe look at the page in light and in dark, and see that nothing is cut off."""
    from axe_playwright_python.sync_playwright import Axe

    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        violations = Axe().run(page).response["violations"]
        bad = [
            (item["id"], [node["target"] for node in item["nodes"]])
            for item in violations
            if item["impact"] in BAD
        ]
        assert not bad, (state, scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (state, scheme)
        if folder := os.environ.get("PAGE_SHOTS"):
            page.screenshot(
                path=Path(folder) / f"{state}-{scheme}-{page.viewport_size['width']}.png"
            )


def test_from_upload_to_download_by_the_keyboard_alone(
    page: Any, address: str, files: dict[str, Path], tmp_path: Path
) -> None:
    page.goto(address)
    page.wait_for_selector("#form .field")
    check_access(page, "empty")
    choose(page, "#file-photo", files["photo"])
    choose(page, "#file-style", files["style"])
    page.wait_for_selector(".style figure img")
    write_number(page, "#field-size", 64)
    write_number(page, "#field-steps", 40)
    check_access(page, "chosen")
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-view=job]")
    check_access(page, "running")
    page.wait_for_selector(".standing:has-text('Done')")
    page.wait_for_selector(".divider:not([hidden])")
    check_access(page, "done")
    _look_around(page)
    _download(page, tmp_path)
    tab_to(page, ".actions button:nth-of-type(3)")
    page.keyboard.press("Enter")
    page.wait_for_selector("#field-size:focus")
    assert page.input_value("#field-size") == "64"
    assert page.locator(".well figure img").count() == 2
    write_number(page, "#field-size", 3)
    page.keyboard.press("Enter")
    page.wait_for_selector("#field-size-error:has-text('expected')")
    assert page.get_attribute("#field-size", "aria-invalid") == "true"
    check_access(page, "error")


def _look_around(page: Any) -> None:
    tab_to(page, ".surface")
    before = page.text_content(".percent")
    page.keyboard.press("+")
    assert page.text_content(".percent") != before
    page.keyboard.press("0")
    assert page.text_content(".percent") == before
    tab_to(page, ".divider")
    page.keyboard.press("Home")
    assert page.get_attribute(".divider", "aria-valuenow") == "0"
    page.keyboard.press("PageUp")
    assert page.get_attribute(".divider", "aria-valuenow") == "10"


def _download(page: Any, folder: Path) -> None:
    tab_to(page, ".actions button:nth-of-type(1)")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    path = folder / "out.png"
    download.value.save_as(path)
    assert download.value.suggested_filename == "_b_photo.png"
    with Image.open(path, formats=["PNG"]) as image:
        assert image.size == (64, 48)


def test_a_job_that_is_canceled_says_so(page: Any, address: str, files: dict[str, Path]) -> None:
    page.goto(address)
    page.click(".photo .sample >> nth=0")
    page.click(".style .sample >> nth=1")
    page.wait_for_selector("#style-mask-0")
    page.set_input_files("#style-mask-0", files["style"])
    page.click(".style .sample >> nth=2")
    page.wait_for_selector("#style-mask-1")
    held = "[0, 1].map((at) => document.querySelector(`#style-mask-${at}`).files.length)"
    assert page.evaluate(held) == [1, 0]
    check_access(page, "masks")
    page.fill("#field-size", "128")
    page.fill("#field-steps", "1000")
    page.press("#field-steps", "Control+Enter")
    page.wait_for_selector(".actions button:has-text('Cancel')")
    page.click(".actions button:has-text('Cancel')")
    page.wait_for_selector(".standing:has-text('Canceled')")
    check_access(page, "canceled")
    (job,) = page.evaluate("fetch('/v1/jobs?limit=1').then((a) => a.json())")["jobs"]
    assert [style["mask"] for style in job["options"]["styles"]] == [True, False]
    page.goto(f"{address}/#/jobs/{'0' * 32}")
    page.wait_for_selector(".wait:has-text('no such picture')")


def test_a_token_is_asked_for_and_kept_in_the_tab_alone(page: Any, address: str) -> None:
    def guard(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer right-token-of-16":
            route.continue_(
                headers={
                    name: value
                    for name, value in route.request.headers.items()
                    if name != "authorization"
                }
            )
        else:
            route.fulfill(
                status=401, content_type="application/problem+json", body='{"status": 401}'
            )

    page.route("**/v1/**", guard)
    page.goto(address)
    page.wait_for_selector("#token[open]")
    check_access(page, "token")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#token-error:has-text('does not take')")
    page.keyboard.type("right-token-of-16")
    page.keyboard.press("Enter")
    page.wait_for_selector("#form .field")
    kept = page.evaluate("[Object.values(sessionStorage), Object.values(localStorage)]")
    assert kept == [["right-token-of-16"], []]


def test_a_server_that_does_not_answer_is_waited_for(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("#form .field")
    page.click(".photo .sample >> nth=0")
    page.click(".style .sample >> nth=0")
    page.wait_for_selector(".style figure img")
    page.context.set_offline(True)
    page.press("#field-size", "Control+Enter")
    page.wait_for_selector("#banner:has-text('does not answer')")
    check_access(page, "offline")
    page.context.set_offline(False)
    page.wait_for_selector("#banner", state="hidden")


def test_what_a_server_says_is_text(page: Any, address: str) -> None:
    hostile = "<img src=x onerror=document.title='turned'><b>bold</b>"
    page.route(
        "**/v1/jobs",
        lambda route: route.fulfill(
            status=422, content_type="application/problem+json",
            body='{"status": 422, "detail": "' + hostile + '", "setting": "size"}',
        ) if route.request.method == "POST" else route.continue_(),
    )  # fmt: skip
    page.goto(address)
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "PNG")
    page.wait_for_selector("#form .field")
    for role in ("photo", "style"):
        name = "<img src=x onerror=alert(1)>.png"
        page.set_input_files(
            f"#file-{role}", {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}
        )
    page.press("#field-size", "Control+Enter")
    page.wait_for_selector("#field-size-error:not(:empty)")
    assert page.text_content("#field-size-error") == hostile
    assert page.title() == "nstx"
