"""Checks pages in a headless browser; see scripts/report-test."""

import argparse
import base64
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

BYTES_MAX = 2_000_000
NARROW, WIDE = 360, 1200
CONTRAST_LEAST = 4.5
SHADE_LEAST = 0.06

# Gives what is wrong, as lines. A colour is looked at as it is painted: over the first background
# that isn't transparent.
LOOK = """(least) => {
  const wrong = [];
  const room = document.documentElement.clientWidth;
  const widest = document.documentElement.scrollWidth;
  if (widest > room) wrong.push(`overflow: ${widest} pixels in ${room}`);
  const clipped = (e) => e.closest('.wide') && !e.classList.contains('wide');
  for (const e of document.querySelectorAll('body *')) {
    const box = e.getBoundingClientRect();
    if (box.right > room + 1 && !clipped(e)) wrong.push(`overflow: <${e.tagName}> ends at ${box.right}`);
  }
  for (const svg of document.querySelectorAll('svg')) {
    const name = svg.getAttribute('aria-label');
    const frame = svg.getBoundingClientRect();
    const marks = [...svg.querySelectorAll('rect,circle,polyline')].filter((mark) => {
      const box = mark.getBoundingClientRect(), style = getComputedStyle(mark);
      const painted = [style.fill, style.stroke].some((paint) => paint !== 'none');
      const inside = box.left >= frame.left - 1 && box.right <= frame.right + 1
        && box.top >= frame.top - 1 && box.bottom <= frame.bottom + 1;
      return painted && inside && box.width + box.height > 1;
    });
    if (marks.length === 0) wrong.push(`no marks in: ${name}`);
    for (const text of svg.querySelectorAll('text')) {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1)
        wrong.push(`text outside of its plot: ${text.textContent}`);
      if (parseFloat(getComputedStyle(text).fontSize) * frame.width / svg.viewBox.baseVal.width < 9)
        wrong.push(`text too small to be read: ${text.textContent} in ${name}`);
    }
  }
  const rgba = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const luminance = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => v / 255).map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] > 0) return colour;
    }
    return [255, 255, 255, 1];
  };
  let texts = 0;
  const worst = {};
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim()) continue;
    texts += 1;
    const style = getComputedStyle(e);
    const found = ratio(rgba(e instanceof SVGElement ? style.fill : style.color), behind(e));
    if (found < least) worst[e.tagName] = `contrast ${found.toFixed(2)} of <${e.tagName}>: ${e.textContent.slice(0, 40)}`;
  }
  for (const mark of document.querySelectorAll('svg rect,svg circle,svg polyline')) {
    const style = getComputedStyle(mark);
    const found = ratio(rgba(style.fill === 'none' ? style.stroke : style.fill), behind(mark));
    if (found < least) worst.mark = `contrast ${found.toFixed(2)} of marks`;
  }
  if (texts < 20) wrong.push(`only ${texts} pieces of text`);
  return { wrong: wrong.concat(Object.values(worst)), texts, plots: document.querySelectorAll('svg').length };
}"""

# What each check must complain of: a check that passes everything is none.
SPOILED = {
    "overflow": "<div style='width:400px;height:9px;background:#888'></div>",
    "no sign": "<style>.wide{background:none!important}</style>",
    "no marks": "<svg viewBox='0 0 9 9' aria-label=empty></svg>",
    "contrast": "<p style='color:#888;background:#999'>hardly</p>",
    "console": "<img src=''><script>1</script>",
    "network": "<link rel=stylesheet href='http://192.0.2.1/a.css'>",
}

# Width of the strip at a wide table's right side that is looked at, in pixels.
STRIP = 12


# Mean brightness of a picture, 0 to 1.
BRIGHTNESS = """async (png) => {
  const image = new Image();
  image.src = 'data:image/png;base64,' + png;
  await image.decode();
  const canvas = Object.assign(document.createElement('canvas'), { width: image.width, height: image.height });
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, image.width, image.height).data;
  let sum = 0;
  for (let at = 0; at < pixels.length; at += 4) sum += pixels[at] + pixels[at + 1] + pixels[at + 2];
  return sum / pixels.length * 4 / 3 / 255;
}"""


def shaded(page, table):
    """How far the strip at a table's right side differs from the page in brightness, 0 to 1."""
    table.evaluate(
        "e => e.querySelectorAll('th,td').forEach(c => { c.style.color = c.style.borderColor = 'transparent'; })"
    )
    table.evaluate("e => e.scrollIntoView({ block: 'center' })")
    box = table.bounding_box()
    strip = {"x": box["x"] + box["width"] - STRIP, "width": STRIP}
    plain = {"x": 0, "width": 4}

    def bright(part):
        png = page.screenshot(clip=part | {"y": max(0, box["y"]), "height": min(40, box["height"])})
        return page.evaluate(BRIGHTNESS, base64.b64encode(png).decode())

    return abs(bright(strip) - bright(plain))


def scrolls(page):
    """What is wrong with the sign that a table goes on sideways."""
    wrong = []
    for table in page.query_selector_all(".wide"):
        if table.evaluate("e => e.scrollWidth <= e.clientWidth"):
            continue
        before = shaded(page, table)
        table.evaluate("e => { e.scrollLeft = e.scrollWidth; }")
        after = shaded(page, table)
        name = table.inner_text().split("\n")[0][:40]
        if before < SHADE_LEAST or after > SHADE_LEAST / 2:
            wrong.append(f"no sign that it scrolls: {name} ({before:.3f}, at its end {after:.3f})")
    return wrong


def look(browser, html, path, scheme, width, screenshot=None):
    """Opens a page and gives what is wrong with it, and what was looked at."""
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    said = []
    page.on("console", lambda message: said.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"console: {error}"))
    page.on(
        "request",
        lambda request: request.url.startswith(("file:", "data:")) or said.append(f"network: {request.url}"),
    )
    path.write_text(html)
    page.goto(path.as_uri())
    found = page.evaluate(LOOK, CONTRAST_LEAST)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    if screenshot:
        page.screenshot(path=screenshot, full_page=True)
    found["wrong"] += scrolls(page)
    page.close()
    return said + found["wrong"], found, background


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screenshots", type=Path, required=True)
    parser.add_argument("pages", nargs="+", type=Path)
    asked = parser.parse_args()
    asked.screenshots = asked.screenshots.resolve()
    asked.screenshots.mkdir(parents=True, exist_ok=True)
    failed = 0
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium)
        print(f"report-test: Chromium {browser.version}")
        work = asked.screenshots / "page.html"
        for path in asked.pages:
            html, backgrounds, wrong = path.read_text(), set(), []
            if len(html.encode()) > BYTES_MAX:
                wrong.append(f"{len(html.encode())} bytes")
            for scheme in ("light", "dark"):
                for width in (NARROW, WIDE):
                    shot = asked.screenshots / f"{path.stem}-{scheme}-{width}.png"
                    said, found, background = look(browser, html, work, scheme, width, shot)
                    wrong += [f"{scheme}, {width}: {text}" for text in said]
                    backgrounds.add(background)
            if len(backgrounds) != 2:
                wrong.append("light and dark look the same")
            if found["plots"] == 0:
                wrong.append("no plot")
            for name, spoil in SPOILED.items():
                said, _, _ = look(browser, html.replace("</main>", f"{spoil}</main>"), work, "light", NARROW)
                if not any(text.startswith(name) for text in said):
                    wrong.append(f"a page that is spoiled ({name}) passes: {said}")
            for text in dict.fromkeys(wrong):
                print(f"report-test: {path.name}: {text}")
            state = "FAILED" if wrong else "ok"
            print(f"report-test: {path.name}: {state}, {len(html.encode()):,} bytes, {found['plots']} plots, {found['texts']} texts")
            failed += bool(wrong)
        work.unlink()
        browser.close()
    print(f"{len(asked.pages) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
