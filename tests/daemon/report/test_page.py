"""Does the page show all that it should in a real browser, on a phone and on a desk, and fetch nothing?

The page is measured in a copy with a script that tells its surroundings what it sees: in a frame, for a headless
browser's own window is never as narrow as a phone's.
"""

import base64
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.models import put_candidate, verdict
from tests.support import call_mmd
from tests.tiny import Board, tiny_board

from mmd.supervisor.history import open_to_write
from mmd.training.losses import LossLine

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE, DESK = 390, 1280
LONG = "a class with a name that is much longer than any column"

needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium is installed here")

MEASURE = """
<script>
const errors = [];
addEventListener("error", event => errors.push(String(event.message)));
addEventListener("load", () => {
  const box = element => { const r = element.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const scrolls = element => element && (["auto", "scroll", "hidden"].includes(getComputedStyle(element).overflowX)
                                         || scrolls(element.parentElement));
  const all = [...document.body.querySelectorAll("*")];
  parent.postMessage({
    width: innerWidth,
    content: document.documentElement.scrollWidth,
    outside: all.filter(e => !scrolls(e.parentElement) && box(e)[2] > innerWidth + 1).map(e => e.outerHTML),
    fetched: performance.getEntriesByType("resource").map(entry => entry.name),
    errors: errors,
    headings: [...document.querySelectorAll("h1, h2, h3")].map(e => [e.innerText, box(e)]),
    news: [...document.querySelectorAll(".news li")].map(e => e.innerText),
    tracks: [...document.querySelectorAll(".track")].map(e => [box(e), ...[...e.children].map(box)]),
    pictures: [...document.querySelectorAll("svg")].map(e => [e.getAttribute("aria-label"), box(e)]),
    page: getComputedStyle(document.body).backgroundColor,
    text: document.body.innerText,
  }, "*");
});
</script>
"""
FRAME = """<!doctype html><iframe src="page.html" style="border: 0; width: {width}px; height: 4000px"></iframe>
<script>addEventListener("message", event => {{
  const shown = document.createElement("pre");
  shown.id = "measured";
  shown.textContent = "MEASURED" + btoa(unescape(encodeURIComponent(JSON.stringify(event.data)))) + "MEASURED";
  document.body.append(shown);
}});</script>
"""


@dataclass(frozen=True)
class Seen:
    """What the browser made of the page."""

    measured: dict[str, Any]
    console: list[str]


def look(page: Path, folder: Path, *, width: int, options: tuple[str, ...] = ()) -> Seen:
    """Open a copy of `page` in a frame of this width."""
    folder.mkdir()
    (folder / "page.html").write_text(page.read_text().replace("</head>", f"{MEASURE}</head>"))
    (folder / "frame.html").write_text(FRAME.format(width=width))
    done = subprocess.run(
        [
            str(BROWSER),
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"),
            *("--window-size=1400,4000", "--virtual-time-budget=3000", f"--user-data-dir={folder / 'profile'}"),
            *options,
            (folder / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.search(r"MEASURED([A-Za-z0-9+/=]+)MEASURED</pre>", done.stdout)
    assert found is not None, done.stderr[-2000:]
    measured = json.loads(base64.b64decode(found.group(1)))
    return Seen(measured, [line for line in done.stderr.splitlines() if "CONSOLE" in line])


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory, tiny_set: Path) -> Board:
    """A board after an eventful day, with a class whose name is too long for everything."""
    board = tiny_board(tmp_path_factory.mktemp("board") / "state", tiny_set, samples=12)
    classes = (LONG, "b")
    for number, right in ((1, 16), (2, 19)):
        won = verdict(number, generation_before=number - 1, classes=classes, holdout_right_after=right)
        folder = put_candidate(board.state, number, verdict=won)
        lines = [
            msgspec.json.encode(LossLine(step, 2.0 / step, 1.0 / step, 0.5, (0.1,), 1.0, (1.0,), 1.0, 0.01)).decode()
            for step in range(1, 40)
        ]
        (folder / "losses.jsonl").write_text("\n".join(lines) + "\n")
        board.models().finish_round(number)
    begin = time.time() - 10 * 3600
    with open_to_write(board.state.history_db) as history:
        for hours, state, codes in (
            (0, "waiting", ("on_battery", "user_active")),
            (4, "waiting", ("on_battery",)),
            (6, "training", ()),
            (8, "idle", ("nothing_new",)),
        ):
            history.add_state(begin + hours * 3600, state, codes, round_number=None, step=None)
            history.add_conditions(begin + hours * 3600, {"external_power": hours >= 6, "battery_charge": 50.0 + hours})
        history.add_state(begin + 9.9 * 3600, "stopped", (), round_number=None, step=None)
    return board


@pytest.fixture(scope="module")
def page(board: Board) -> Path:
    out = board.state.root.parent / "report.html"
    ran = call_mmd("report", "--out", out, state=board.state.root)
    assert ran.code == 0, ran.err
    return out


@pytest.fixture(scope="module", params=[PHONE, DESK])
def seen(request: pytest.FixtureRequest, page: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    width: int = request.param
    seen = look(page, tmp_path_factory.mktemp("browser") / "look", width=width)
    assert seen.measured["width"] == width
    return seen


@needs_browser
def test_nothing_sticks_out_sideways(seen: Seen) -> None:
    assert seen.measured["content"] <= seen.measured["width"]
    assert seen.measured["outside"] == []


@needs_browser
def test_nothing_is_fetched_and_nothing_complained_of(seen: Seen) -> None:
    assert seen.measured["fetched"] == []
    assert seen.measured["errors"] == []
    assert seen.console == []


@needs_browser
def test_every_part_is_there_to_be_seen(seen: Seen) -> None:
    headings = dict(seen.measured["headings"])
    assert set(headings) == {
        "What this board learned",
        "Summary",
        "Since yesterday",
        "Held-out accuracy",
        "What kept training back since yesterday",
        "States and conditions",
        "Round 2",
        "Round 1",
        "Loss",
        "Before",
        "After",
    }
    pictures = seen.measured["pictures"]
    assert {label for label, _ in pictures} == {
        "States and conditions over time",
        "Loss terms over the steps of the round",
        "Confusion before",
        "Confusion after",
    }
    for left, top, right, bottom in [*headings.values(), *(box for _, box in pictures)]:
        assert 0 <= left < right, "it has a width, and begins on the page"
        assert 0 <= top < bottom


@needs_browser
def test_the_bars_are_as_long_as_the_figures_say(seen: Seen, board: Board) -> None:
    figures = json.loads(call_mmd("report", "--json", state=board.state.root).out)
    rows, lost = figures["comparison"], figures["recent"]["lost"]
    assert len(seen.measured["tracks"]) == len(rows) + len(lost) == 3 + 3
    for (track, bar, whisker), row in zip(seen.measured["tracks"], rows, strict=False):
        assert _share(bar, track) == pytest.approx(row["right"] / row["total"], abs=0.01)
        assert _start(whisker, track) < row["right"] / row["total"] < _start(whisker, track) + _share(whisker, track)
    for (track, held, alone), each in zip(seen.measured["tracks"][len(rows) :], lost, strict=True):
        assert _share(held, track) == pytest.approx(each["share"], abs=0.01)
        assert _share(alone, track) == pytest.approx(each["alone_share"], abs=0.01)


def _share(part: list[float], whole: list[float]) -> float:
    return (part[2] - part[0]) / (whole[2] - whole[0])


def _start(part: list[float], whole: list[float]) -> float:
    return (part[0] - whole[0]) / (whole[2] - whole[0])


@needs_browser
def test_what_was_learned_is_told_in_the_words_of_the_store(seen: Seen, board: Board) -> None:
    figures = json.loads(call_mmd("report", "--json", state=board.state.root).out)
    assert [sentence.replace("`", "") for sentence in figures["recent"]["news"]] == seen.measured["news"]
    assert "2 rounds of training ended; 2 made a better model." in seen.measured["news"]
    for words in ("19/20 = 95.0 %", "no external power feeds the board", "6.0 h", "generation 2, probation"):
        assert words in seen.measured["text"]


@needs_browser
def test_at_night_it_is_dark(page: Path, tmp_path: Path) -> None:
    light = look(page, tmp_path / "light", width=DESK).measured["page"]
    dark = look(page, tmp_path / "dark", width=DESK, options=("--force-dark-mode",)).measured["page"]
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(21, 24, 28)")


def test_the_page_names_nothing_to_fetch(page: Path) -> None:
    text = page.read_text()
    assert "<script" not in text
    assert re.findall(r"""(?:src|href)=|url\(|@import""", text) == []


def test_a_state_folder_that_is_read_only_has_its_report_too(board: Board, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    command = f"mount --bind {board.state.root} {board.state.root} && mount -o remount,ro,bind {board.state.root}"
    inside = f"{command} && exec {sys.executable} -m mmd report --state-dir {board.state.root} --out {out}"
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", inside],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert out.read_text().startswith("<!doctype html>")
