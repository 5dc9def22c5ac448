"""The report's page as people use it, in a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.reports import KINDS, MAKERS, rows, without_ray, write
from tokenfocus_ray.distributed.report.job import write_report

N = 99
#: A prompt that would run, were it markup, in each of the ways in which text gets into a page.
HOSTILE = (
    "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
    "<!--<script>${document.title='run'}&lt;b&gt;\u2028"
)

#: Scores as other tools make them.
ODD = {
    "constant": [3.0] * 4,
    "far": [-2e9, 0.001, 0.5, 1e15],
    "shares": [0.125, 0.25, 0.5, 1.0],
    "unscored": [float("nan")] * 4,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of the same images, a page of one of them, and a page of nothing much."""
    folder = tmp_path_factory.mktemp("report")
    found = rows(N, folder)
    best = max((row for row in found if row["status"] == "ok"), key=lambda row: row["score"])
    best["prompt"] = best["generator"] = best["elements"][0]["text"] = HOSTILE
    best["elements"][0]["type"] = HOSTILE
    Path(best["image_uri"]).unlink()
    write(found, folder / "scores.parquet")
    write(rows(N, seed=1), folder / "other.parquet")
    bare = [
        {**row, "generator": None, "elements": None, "element_scores": [], "member_scores": [],
         "member_element_scores": [], "image_uri": None}
        for row in found[:3]
    ]  # fmt: skip
    write(bare, folder / "bare.parquet")
    with without_ray():
        table = str(folder / "scores.parquet")
        against = str(folder / "other.parquet")
        write_report(table, str(folder / "page.html"), against=against)
        write_report(str(folder / "bare.parquet"), str(folder / "bare.html"))
        for name, scores in ODD.items():
            odd = [{**row, "score": s} for row, s in zip(found, scores, strict=False)]
            write(odd, folder / f"{name}.parquet")
            write_report(str(folder / f"{name}.parquet"), str(folder / f"{name}.html"))
    return folder


Opened = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, folder: Path) -> Iterator[Opened]:
    """Opens a page; in the end nothing was asked of the network, and nothing went wrong."""
    contexts: list[Any] = []
    seen: list[str] = []

    def open_page(name: str = "page.html", width: int = 1280, **more: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 844}, **more)
        page = context.new_page()
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda request: seen.append(request.url))
        contexts.append(context)
        page.goto((folder / name).as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [one for one in seen if not one.startswith(("data:", folder.as_uri()))] == []


def cards(page: Any) -> int:
    return int(page.locator("#gallery .card").count())


def test_slider_changes_count_and_command(opened: Opened, folder: Path) -> None:
    page = opened()
    scores = [row["score"] for row in rows(N) if row["status"] == "ok"]
    for threshold in ("2.5", "3.141"):
        page.fill("#exact", threshold)
        n = sum(score >= float(threshold) for score in scores)
        share = f"{100 * n / N:.1f} %"
        said = f"{n} of {N} images stay ({share}), with a score of {threshold} or more"
        assert page.inner_text("#stay") == said
        command = page.inner_text("#command")
        assert command == (
            f"tokenfocus select {folder}/scores.parquet --min-score {threshold} --out selected"
        )
    page.focus("#threshold")
    before = page.input_value("#threshold")
    page.keyboard.press("ArrowRight")
    assert int(page.input_value("#threshold")) == int(before) // 10 * 10 + 10
    assert page.inner_text("#stay") != said
    page.keyboard.press("End")
    assert page.inner_text("#stay").startswith(f"0 of {N} images stay (0.0 %)")
    page.keyboard.press("Home")
    assert page.inner_text("#stay").startswith(f"{len(scores)} of {N} images stay")
    assert page.input_value("#exact") == str(int(page.input_value("#threshold")) / 1000)


def test_galleries_and_filters(opened: Opened) -> None:
    page = opened()
    assert cards(page) == 24
    assert page.inner_text("#gallery-says") == "The 24 highest scores of 90 scored images."
    shown = page.locator("#gallery .score").all_inner_texts()
    assert shown == sorted(shown, reverse=True)
    page.check("input[value=worst]", force=True)
    shown = page.locator("#gallery .score").all_inner_texts()
    assert shown == sorted(shown)
    page.select_option("#by-maker", label=MAKERS[1])
    n = cards(page)
    assert 0 < n < 24
    assert page.inner_text("#gallery-says").endswith(f"{n} match the filters.")
    names = page.locator("#gallery .card-top .muted").all_inner_texts()
    assert set(names) == {MAKERS[1]}
    page.select_option("#by-maker", label="any")
    page.select_option("#by-kind", label=KINDS[0])
    assert cards(page) == 24
    page.fill("#by-text", "no such words")
    assert cards(page) == 0
    assert page.inner_text("#gallery") == "No image matches the filters."
    page.fill("#by-text", "")
    page.check("input[value=disputed]", force=True)
    assert cards(page) == 24
    page.check("input[value=around]", force=True)
    page.fill("#exact", "3")
    around = [float(text) for text in page.locator("#gallery .score").all_inner_texts()]
    assert len(around) == 24
    assert all(score < 3.005 for score in around[:12])
    assert all(score >= 3 for score in around[12:])


def test_dialog_by_keyboard(opened: Opened) -> None:
    page = opened()
    page.check("input[value=worst]", force=True)
    page.locator("#gallery .card").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("#dialog").get_attribute("open") is not None
    first = page.inner_text("#dialog-body")
    assert page.inner_text("#dialog-place") == "2 of 24"
    for words in ("qwen/m0", "internvl/m0", "Sample", "Generator", "By member"):
        assert words in first
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#dialog-place") == "3 of 24"
    assert page.inner_text("#dialog-body") != first
    page.keyboard.press("Escape")
    assert page.locator("#dialog").get_attribute("open") is None
    focused = page.evaluate("document.activeElement.className")
    assert focused == "card"


def test_what_the_data_says_never_runs(opened: Opened, folder: Path) -> None:
    page = opened()
    assert page.title() == f"{folder.name}/scores.parquet · TokenFocus report"
    page.locator("#gallery .card").first.click()
    assert page.inner_text("#dialog-title") == HOSTILE
    claim = HOSTILE.strip()
    said = f"{claim[:120]}… ({len(claim)} characters)"
    assert page.locator("#dialog-body tbody th").first.inner_text() == said
    assert page.evaluate("[document.scripts.length, document.images.length > 20]") == [2, True]
    assert page.locator("img[src=x]").count() == 0
    no_image = page.locator("#dialog .no-image").inner_text()
    assert no_image.startswith("no image\n")
    assert "does not exist" in no_image


def test_even_markup_that_got_in_would_not_run(browser: Any, folder: Path) -> None:
    page = browser.new_page()
    page.goto((folder / "page.html").as_uri())
    title = page.title()
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), "
        "{textContent: 'document.title = 1'}))"
    )
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=title=1>')")
    sent = page.evaluate("fetch('https://example.org/').then(() => 'sent', () => 'refused')")
    assert (page.title(), sent) == (title, "refused")
    page.close()


def test_phone(opened: Opened) -> None:
    for name in ("page.html", "bare.html"):
        page = opened(name, width=390)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.locator("#gallery .card").first.click()
        assert page.evaluate("document.querySelector('#dialog').scrollWidth") <= 390


def test_dark_and_light(opened: Opened) -> None:
    def paper(page: Any) -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page = opened(color_scheme="dark")
    assert paper(page) == "rgb(18, 22, 28)"
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: light"
    assert paper(page) == "rgb(255, 255, 255)"
    page.click("#theme")
    assert (page.inner_text("#theme"), paper(page)) == ("Theme: dark", "rgb(18, 22, 28)")
    page.emulate_media(media="print")
    assert paper(page) == "rgb(255, 255, 255)"


def test_print(opened: Opened) -> None:
    page = opened()
    page.emulate_media(media="print")
    for gone in ("#nav", "#theme", "#filters", "#threshold", "#copy"):
        assert not page.is_visible(gone)
    for there in ("#stay", "#plot", "#gallery", "#elements", "#command"):
        assert page.is_visible(there)
    assert page.pdf().startswith(b"%PDF")


def test_sections(opened: Opened) -> None:
    page = opened()
    code, n, share, *_ = page.locator("#unscored-body tbody tr > *").all_inner_texts()
    assert (code, n, share) == ("image_corrupt", "9", "9.1 %")
    places = page.locator("#generators-body tbody th").all_inner_texts()
    assert [one[:3] for one in places] == ["1. ", "2. ", "3. ", "4. "]
    assert {*MAKERS} < {one[3:] for one in places}
    kinds = page.locator("#elements-body table").first.locator("tbody th").all_inner_texts()
    assert {*KINDS} < {*kinds}
    assert "mean difference" in page.inner_text("#runs-body")
    assert page.locator("#runs-body .card").count() == 24
    assert page.locator("#origin-body tbody th").all_inner_texts() == ["qwen", "internvl"]


@pytest.mark.parametrize("name", ODD)
def test_scores_of_any_scale(opened: Opened, name: str) -> None:
    page = opened(f"{name}.html")
    if name == "unscored":
        assert page.inner_text("#selection-body").startswith("No row has a score")
        assert page.inner_text("#gallery") == "No row has a score."
        return
    assert page.locator("#plot .bar").count() <= 81
    page.focus("#threshold")
    page.keyboard.press("Home")
    assert page.inner_text("#stay").startswith("4 of 4 images stay (100.0 %)")
    page.keyboard.press("End")
    assert page.inner_text("#stay").startswith("0 of 4 images stay (0.0 %)")


def test_empty_states(opened: Opened) -> None:
    page = opened("bare.html")
    for place, words in {
        "#elements-body": "No elements: ",
        "#generators-body": "No generator column: ",
        "#labels-body": "No labels were given: ",
        "#runs-body": "No other run was given: ",
        "#unscored-body": "Every one of the 3 rows has a score.",
    }.items():
        assert page.inner_text(place).startswith(words)
    page.check("input[value=disputed]", force=True)
    assert page.inner_text("#gallery").startswith("Nobody can disagree: ")
    page.check("input[value=best]", force=True)
    assert page.locator(".no-image").count() == 3
