# SPDX-License-Identifier: Apache-2.0
"""What a terminal shows (`tmux capture-pane -p -e` on standard input) as SVG on standard output."""

import html
import re
import sys

COLOURS = ["#000000", "#ff7b72", "#7ee787", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#c9d1d9"]
INK, PAPER = "#c9d1d9", "#0d1117"
WIDTH, HEIGHT, MARGIN = 8.4, 17, 10


def look(codes: list[int], style: dict) -> dict:
    """The style after an SGR sequence."""
    for code in codes:
        if code == 0:
            style = {}
        elif code in (1, 4, 7):
            style = {**style, code: True}
        elif 30 <= code <= 37 or 90 <= code <= 97:
            style = {**style, "ink": COLOURS[code % 10]}
        elif code == 39:
            style = {key: value for key, value in style.items() if key != "ink"}
        elif code in (22, 24, 27):
            off = {22: 1, 24: 4, 27: 7}[code]
            style = {key: value for key, value in style.items() if key != off}
    return style


def spans(line: str, style: dict):
    """(column, text, style) of each run, and the style at the end of the line."""
    column, runs = 0, []
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if part.startswith("\x1b["):
            style = look([int(code or 0) for code in part[2:-1].split(";")], style)
        elif part:
            # Shifts to other character sets mean nothing here.
            part = re.sub(r"[\x0e\x0f]", "", part)
            runs.append((column, part, style))
            column += len(part)
    return runs, style


def main() -> None:
    columns = int(sys.argv[1])
    lines = sys.stdin.read().rstrip("\n").split("\n")
    width, height = columns * WIDTH + 2 * MARGIN, len(lines) * HEIGHT + 2 * MARGIN
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14">'
        f'<rect width="100%" height="100%" rx="6" fill="{PAPER}"/>'
    )
    style = {}
    for row, line in enumerate(lines):
        runs, style = spans(line, style)
        for column, text, one in runs:
            ink, paper = one.get("ink", INK), None
            if one.get(7):
                ink, paper = PAPER, ink
            x, y, length = MARGIN + column * WIDTH, MARGIN + row * HEIGHT, len(text) * WIDTH
            if paper:
                print(f'<rect x="{x:.1f}" y="{y}" width="{length:.1f}" height="{HEIGHT}" fill="{paper}"/>')
            if text.strip():
                weight = ' font-weight="bold"' if one.get(1) else ""
                line_under = ' text-decoration="underline"' if one.get(4) else ""
                print(
                    f'<text x="{x:.1f}" y="{y + 13}" textLength="{length:.1f}" xml:space="preserve" '
                    f'fill="{ink}"{weight}{line_under}>{html.escape(text)}</text>'
                )
    print("</svg>")


main()
