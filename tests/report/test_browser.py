"""The page in a real browser: no error, every figure seen, nothing wider than a phone."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    *("--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=10000"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
]
MEASURE = """
<script>
addEventListener("load", () => {
  const root = document.documentElement, boxes = {};
  for (const figure of document.querySelectorAll("figure")) {
    const box = figure.querySelector("svg").getBoundingClientRect();
    boxes[figure.id] = [box.left, box.right, box.width, box.height];
  }
  const loaded = performance.getEntriesByType("resource").map(entry => entry.name);
  parent.postMessage({width: innerWidth, wide: root.scrollWidth, boxes, loaded}, "*");
});
</script>
"""
HARNESS = """
<!DOCTYPE html><meta charset="utf-8"><body><pre id="seen"></pre><script>
const seen = [];
addEventListener("message", event => {
  seen.push(event.data);
  document.getElementById("seen").textContent = JSON.stringify(seen);
});
</script>FRAMES</body>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is missing")
def test_pages_are_whole_on_a_phone_and_on_a_screen(
    finished: Path, finished_sweep: Path, tmp_path: Path
) -> None:
    frames, wanted = "", []
    for number, folder in enumerate((finished, finished_sweep)):
        page = (folder / "report.html").read_text()
        figures = re.findall(r'<figure id="(.*?)"', page)
        (tmp_path / f"{number}.html").write_text(page.replace("</body>", f"{MEASURE}</body>"))
        for width in (390, 1280):
            style = f"width:{width}px;height:800px;border:0"
            frames += f'<iframe src="{number}.html" style="{style}"></iframe>'
            wanted.append((width, sorted(figures)))
    (tmp_path / "harness.html").write_text(HARNESS.replace("FRAMES", frames))
    address = f"file://{tmp_path / 'harness.html'}"
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [str(CHROMIUM), *OPTIONS, profile, "--window-size=1400,1000", "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert "CONSOLE" not in done.stderr
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found is not None, done.stderr
    seen: list[dict[str, Any]] = json.loads(unescape(found[1]))
    assert sorted((page["width"], sorted(page["boxes"])) for page in seen) == sorted(wanted)
    for page in seen:
        assert page["wide"] <= page["width"]
        assert page["loaded"] == []
        for left, right, width, height in page["boxes"].values():
            assert left >= 0 and right <= page["width"]
            assert width > 300 and height > 100
