"""The report and the comparison in a real browser, as wide as a desktop and as a phone."""

from __future__ import annotations

import pytest

from keras_nas_plugin.reports import write_comparison, write_report
from tests.reports.conftest import evolve, save, search_info

pytestmark = pytest.mark.ui

# Words of more than one line, without the hyphens at which browsers break lines.
BROKEN_WORDS = r"""
() => {
  const content = document.querySelector("#content");
  const walker = document.createTreeWalker(content, NodeFilter.SHOW_TEXT);
  const broken = [], range = document.createRange();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.parentElement.closest("script, style, svg, title")) continue;
    for (const word of node.data.matchAll(/[\w.,=:]+/g)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const tops = new Set([...range.getClientRects()].map(box => Math.round(box.top)));
      if (tops.size > 1) broken.push(word[0]);
    }
  }
  return broken;
}
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of each kind, about searches of 30 synthetic trials."""
    folder = tmp_path_factory.mktemp("pages")
    searches = []
    for seed in range(2):
        search = search_info(folder / f"digits-{seed}", name=f"digits-{seed}", search_id=f"{seed}")
        searches.append(save(search, evolve(search, 30, population=8, seed=seed)))
    write_report(searches[0], folder / "report.html")
    write_comparison(searches, folder / "comparison.html")
    return folder


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("name", ["report", "comparison"])
def test_a_page_fits_into_the_window_and_breaks_no_word(browser, pages, name, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto((pages / f"{name}.html").as_uri())
    for _ in range(2):
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(BROKEN_WORDS) == []
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    page.close()
