"""The built documentation fits on a telephone and on a desk; `make test-browser` runs it."""

from pathlib import Path

import trio

from tests.apps.chromium import find_chromium
from tests.apps.devtools import Page, open_browser

BUILT = Path(__file__).parents[2] / "docs" / "_build"
#: Widths in pixels, and how many columns a table must have to be wider.
SCREENS = {390: 5, 1280: 11}
#: Seconds for all pages.
PATIENCE = 300.0

#: What is too wide for the screen. Code may be scrolled, and tables of many columns.
TOO_WIDE = """(() => {
  const name = it => `${it.tagName.toLowerCase()} ${it.textContent.trim().slice(0, 40)}`
  const found = []
  if (document.scrollingElement.scrollWidth > %(width)d) found.push("the page")
  for (const it of document.querySelectorAll("article *")) {
    if (it.closest("pre, .highlight, .table-wrapper > *")) continue
    if (it.getBoundingClientRect().right > %(width)d + 1) found.push(name(it))
    const columns = it.matches(".table-wrapper") && it.querySelector("tr").cells.length
    if (columns && columns < %(columns)d && it.scrollWidth > it.clientWidth + 1)
      found.push(name(it))
  }
  return found
})()"""

#: The words of tables that go on in the next line. Names in code may.
BROKEN_WORDS = r"""(() => {
  const found = []
  for (const cell of document.querySelectorAll("article table.docutils :is(td, th)")) {
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT)
    while (texts.nextNode()) {
      const text = texts.currentNode
      if (text.parentElement.closest("code")) continue
      for (const { 0: word, index } of text.data.matchAll(/\p{L}+/gu)) {
        const range = document.createRange()
        range.setStart(text, index)
        range.setEnd(text, index + word.length)
        const lines = new Set([...range.getClientRects()].map(rectangle => rectangle.top))
        if (lines.size > 1) found.push(word)
      }
    }
  }
  return found
})()"""


async def faults(page: Page) -> list[str]:
    found = []
    for width, columns in SCREENS.items():
        await page.resize(width, 800)
        wide = await page.evaluate(TOO_WIDE % {"width": width, "columns": columns})
        found += [f"too wide for {width}: {what}" for what in wide]
        found += [f"broken at {width}: {word}" for word in await page.evaluate(BROKEN_WORDS)]
    return found


async def test_every_page_fits_the_screen() -> None:
    files = sorted(BUILT.rglob("*.html"))
    assert files, f"{BUILT} is empty: run `make docs` first"
    found: dict[str, list[str]] = {}
    with trio.fail_after(PATIENCE):
        async with open_browser(find_chromium()) as browser:
            for file in files:
                page = await browser.open_page(file.as_uri())
                if wrong := await faults(page):
                    found[str(file.relative_to(BUILT))] = wrong
                await page.close()
    assert not found
