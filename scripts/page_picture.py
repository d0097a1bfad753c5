"""Draw docs/page.jpg: the page of ``nstx serve``, on a screen in light and on a phone in dark, with a job that it made.

Usage: python scripts/page_picture.py [SIZE [STEPS]]    (after scripts/page, which installs what this needs)
"""

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

OUT = Path(__file__).parents[1] / "docs" / "page.jpg"
SCREEN, PHONE = (1280, 800), (390, 844)
MINUTES = 60_000  # milliseconds
GAP, WIDTH, MOST = 24, 1500, 250_000


def open_page(browser: Browser, size: tuple[int, int], scheme: str, address: str) -> Page:
    """Open the page in a window of a size, at two pixels for one."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        device_scale_factor=2,
        reduced_motion="reduce",
    )
    context.set_default_timeout(30 * MINUTES)
    page = context.new_page()
    page.goto(address)
    return page


def make_job(page: Page, size: str, steps: str) -> None:
    """Have the page make a picture of its examples."""
    page.click(".photo .sample >> nth=0")
    page.click(".style .sample >> nth=0")
    page.fill("#field-size", size)
    page.fill("#field-steps", steps)
    page.press("#field-steps", "Control+Enter")
    page.wait_for_selector(".standing:has-text('Done')")


def take(page: Page) -> Image.Image:
    """Take a picture of the page with its divider where it ends."""
    page.wait_for_selector(".divider:not([hidden])")
    page.wait_for_timeout(1500)
    return Image.open(io.BytesIO(page.screenshot()), formats=["PNG"]).convert("RGB")


def write_beside(screen: Image.Image, phone: Image.Image) -> None:
    """Write both beside each other, as well as there is room for."""
    height = screen.height
    phone = phone.resize((phone.width * height // phone.height, height), Image.Resampling.LANCZOS)
    both = Image.new("RGB", (screen.width + 2 * GAP + phone.width, height), "white")
    both.paste(screen, (0, 0))
    both.paste(phone, (screen.width + 2 * GAP, 0))
    small = both.resize((WIDTH, both.height * WIDTH // both.width), Image.Resampling.LANCZOS)
    for quality in range(90, 50, -4):
        small.save(OUT, quality=quality, optimize=True, progressive=True)
        if OUT.stat().st_size <= MOST:
            break


def main() -> None:
    """Serve, make a picture, and draw the page."""
    size, steps = [*sys.argv[1:3], *("512", "120")[len(sys.argv[1:3]) :]]
    program = shutil.which("chromium")
    with tempfile.TemporaryDirectory() as state:
        command = [
            *(sys.executable, "-m", "nstx", "serve", "--json"),
            *("--port", "0", "--workers", "1", "--state", state),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            match = re.search(
                r"http://[\d.]+:\d+", server.stdout.readline() if server.stdout else ""
            )
            if match is None:
                raise SystemExit("expected the address of a server, got none; try nstx serve")
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
                screen = open_page(browser, SCREEN, "light", match[0])
                make_job(screen, size, steps)
                phone = open_page(browser, PHONE, "dark", screen.url)
                write_beside(take(screen), take(phone))
                browser.close()
            server.terminate()


if __name__ == "__main__":
    main()
