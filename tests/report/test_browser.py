"""The page in a real browser: no error, every figure seen, nothing wider than a phone."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from cnet_aihw.report import write_report
from cnet_aihw.runtime.records import read_json, write_json_atomic

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


USE = """
<script>
addEventListener("load", () => {
  const table = document.querySelector("table"), field = document.querySelector(".filter input");
  const shown = () => [...table.tBodies[0].rows].filter(row => !row.hidden)
    .map(row => row.cells[0].textContent);
  const heading = table.tHead.rows[0].cells[0], seen = [shown()];
  heading.click(); seen.push(shown());
  heading.click(); seen.push(shown());
  field.value = "plain 0.1"; field.dispatchEvent(new Event("input")); seen.push(shown());
  const pre = document.createElement("pre");
  pre.id = "seen"; pre.textContent = JSON.stringify(seen);
  document.body.append(pre);
});
</script>
"""


def dump(address: str, profile: Path) -> str:
    """Return the page as the browser has it after its scripts; no message on the console."""
    words = [*OPTIONS, f"--user-data-dir={profile}", "--window-size=1400,1000", "--dump-dom"]
    done = subprocess.run(
        [str(CHROMIUM), *words, address], capture_output=True, text=True, timeout=240
    )
    assert "CONSOLE" not in done.stderr
    return done.stdout


def seen_in(page: str) -> Any:
    """Return what a script wrote into the element `seen`."""
    found = re.search(r'<pre id="seen">(.*?)</pre>', page, flags=re.DOTALL)
    assert found is not None, page[-2000:]
    return json.loads(unescape(found[1]))


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is missing")
def test_a_long_table_of_a_sweep_is_sorted_and_filtered(
    finished_sweep: Path, tmp_path: Path, plain_figures: None
) -> None:
    record = read_json(finished_sweep / "sweep.json")
    (row,) = [row for row in record["rows"] if float(row["rram.sigma"]) == 0.1]
    values = ["0.1", "0.9", "0.15", "10", "2", "0.2", "0.3", "0.4"]
    rows = [{**row, "rram.sigma": value} for value in values]
    write_json_atomic(tmp_path / "sweep.json", {**record, "rows": rows})
    page = write_report(tmp_path)
    page.write_text(page.read_text().replace("</body>", f"{USE}</body>"))
    first, rising, falling, filtered = seen_in(dump(f"file://{page}", tmp_path / "profile"))
    assert first == values
    assert rising == sorted(values, key=float)
    assert falling == rising[::-1]
    assert set(filtered) == {v for v in values if v.startswith("0.1") or v == "10"} - {"10"}


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
    seen = seen_in(dump(f"file://{tmp_path / 'harness.html'}", tmp_path / "profile"))
    assert sorted((page["width"], sorted(page["boxes"])) for page in seen) == sorted(wanted)
    for page in seen:
        assert page["wide"] <= page["width"]
        assert page["loaded"] == []
        for left, right, width, height in page["boxes"].values():
            assert left >= 0 and right <= page["width"]
            assert width > 300 and height > 100
