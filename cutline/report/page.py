"""The page of a report: HTML document, style sheet and content security policy."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from cutline.files import write_text


def write_report(
    path: str | Path, title: str, intro: str, sections: Sequence[tuple[str, str]]
) -> None:
    """Write a report to `path`, atomically.

    Args:
        path: The HTML file.
        title: Title of the page.
        intro: A sentence below the title.
        sections: Pairs of a heading, and HTML from the `render_*` functions of this package.
    """
    body = "".join(
        f"<section><h2>{escape(heading)}</h2>{content}</section>\n" for heading, content in sections
    )
    page = _PAGE.format(
        title=escape(title), intro=escape(intro), body=body, policy=_POLICY, style=_STYLE
    )
    write_text(path, page)


_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fff; --card: #f5f5f3; --ink: #16181d; --soft: #5f6470; --rule: #d9dade;
  --line: #1f5fbf; --good: #17733c; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161a; --card: #1e2127; --ink: #ececea; --soft: #a0a5b0; --rule: #343842;
    --line: #7db2ff; --good: #6fce90; --bad: #ff8a80;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 72rem; padding: 2.5rem 1.25rem 3rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1, h2, .figures dd, figcaption {
  font-family: Charter, "Iowan Old Style", Georgia, "Liberation Serif", serif;
}
header { border-bottom: 4px double var(--ink); padding-bottom: 1.1rem; }
h1 {
  margin: 0 0 .6rem;
  font-size: clamp(1.9rem, 6vw, 3.1rem); line-height: 1.1; letter-spacing: -.01em;
}
header p { margin: 0; font-size: 1.1rem; color: var(--soft); max-width: 46rem; }
section { margin-top: 2.4rem; }
h2 {
  margin: 0 0 .9rem; padding-bottom: .3rem; border-bottom: 1px solid var(--rule);
  font-size: 1.35rem;
}
p { max-width: 46rem; }
.figures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1.2rem;
  margin: 0 0 1.2rem;
}
.figures div {
  display: flex; flex-direction: column;
  border-left: 3px solid var(--line); padding-left: .8rem;
}
.figures dd { margin: 0; font-size: 2.1rem; line-height: 1.15; }
.figures dt { order: 1; color: var(--soft); font-size: .9rem; }
.chart { max-width: 46rem; margin: 0 0 1.2rem; }
svg { display: block; width: 100%; height: auto; }
svg text { font-size: 15px; fill: var(--soft); font-variant-numeric: tabular-nums; }
svg text.title { font-size: 18px; font-weight: 600; fill: var(--ink); }
svg text.last {
  font-weight: 600; fill: var(--line);
  paint-order: stroke; stroke: var(--paper); stroke-width: 5px;
}
svg .end { text-anchor: end; }
svg .middle { text-anchor: middle; }
svg line { stroke: var(--rule); }
svg circle, svg rect { fill: var(--line); }
svg path { fill: none; stroke: var(--line); stroke-linejoin: round; }
svg .faint { opacity: .35; }
svg .strong { stroke-width: 3; }
svg .area { fill: var(--line); stroke: none; opacity: .07; }
.gallery {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: 1rem;
}
figure { margin: 0; background: var(--card); border-radius: 6px; overflow: hidden; }
figure img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; }
figcaption {
  padding: .6rem .7rem .7rem;
  font-size: .98rem; line-height: 1.35; overflow-wrap: anywhere;
}
.note {
  display: block; margin-top: .35rem;
  font: .8rem/1.4 system-ui, sans-serif; color: var(--soft);
}
.word-maps {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr));
  gap: 1rem; align-items: start;
}
.word-maps figure { position: relative; }
.word-maps figure img {
  width: min(100%, 28rem * var(--ratio)); aspect-ratio: var(--ratio); object-fit: fill;
}
.word-maps figcaption { font-size: 1.15rem; line-height: 1.7; }
.word { cursor: default; border-bottom: 2px solid var(--rule); }
.word:hover, .word:focus { outline: none; border-color: var(--line); color: var(--line); }
.word img { position: absolute; top: 0; left: 0; opacity: 0; pointer-events: none; }
.word:hover img, .word:focus img { opacity: 1; }
.word-maps figure:has(.word:hover) .word:not(:hover) img { opacity: 0; }
.mark { font-weight: 700; margin-right: .35em; }
.good { color: var(--good); }
.bad { color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .4rem 2rem .4rem 0; border-bottom: 1px solid var(--rule); }
th { color: var(--soft); font-weight: 600; font-size: .85rem; }
.number { text-align: right; }
@media (max-width: 40rem) {
  body { padding: 1.5rem 1rem 2rem; }
  .gallery { grid-template-columns: repeat(2, 1fr); gap: .7rem; }
  svg text { font-size: 25px; }
  svg text.title { font-size: 28px; }
}
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p>{intro}</p></header>
<main>
{body}</main>
</body>
</html>
"""
