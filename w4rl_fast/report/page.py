"""One self-contained HTML page: sections of figures, tables, charts and pictures; it loads nothing from anywhere."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --card: #f5f6f8; --ink: #1b1f24; --soft: #5d6672; --edge: #dfe3e8;
  --c0: #0b6bcb; --c1: #8a94a1; --c2: #c2702a; --c3: #2f8f5b; --c4: #8a5bc4; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --card: #1d2126; --ink: #e6e9ed; --soft: #9aa4b1;
  --edge: #30363e; --c0: #5fb0ff; --c1: #828d9b; --c2: #f0a35e; --c3: #62cf95; --c4: #b795ea; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 61rem; padding: 2.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1, small { text-wrap: balance; } p { text-wrap: pretty; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 3rem 0 .4rem; padding-top: 1.1rem; border-top: 1px solid var(--edge); }
p { margin: .4rem 0 1rem; max-width: 46rem; } .soft, figcaption span, small { color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(max(11.5rem, 22%), 1fr)); gap: .8rem;
  margin: 1.4rem 0; } .figures.thirds { grid-template-columns: repeat(auto-fit, minmax(max(11.5rem, 30%), 1fr)); }
.figures > div { background: var(--card); border-radius: .6rem; padding: .9rem 1rem; }
.figures b { display: block; font-size: 1.65rem; line-height: 1.25; font-weight: 650; }
.figures span { display: block; font-weight: 600; font-size: .9rem; } .figures small { display: block; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); gap: 1rem 1.5rem; }
figure { margin: 1rem 0; } figcaption { font-weight: 600; font-size: .95rem; margin-bottom: .35rem; }
figcaption span { font-weight: 400; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 11.5px; }
svg .grid { stroke: var(--edge); stroke-width: 1; } svg .line { fill: none; stroke-width: 2.4;
  stroke-linejoin: round; stroke-linecap: round; } svg .dashed { stroke-dasharray: 1 5; }
svg .value { font-weight: 600; } svg .whisker { stroke: var(--ink); stroke-width: 1.6; opacity: .75; }
svg path.band { stroke: none; opacity: .16; }
svg path.band.c0 { fill: var(--c0); } svg path.band.c1 { fill: var(--c1); } svg path.band.c2 { fill: var(--c2); }
svg path.band.c3 { fill: var(--c3); } svg path.band.c4 { fill: var(--c4); }
svg line.c4, svg path.line.c4 { stroke: var(--c4); } svg text.c4 { fill: var(--c4); }
svg line.c0, svg path.line.c0 { stroke: var(--c0); } svg rect.c0, svg text.c0 { fill: var(--c0); }
svg line.c1, svg path.line.c1 { stroke: var(--c1); } svg rect.c1, svg text.c1 { fill: var(--c1); }
svg line.c2, svg path.line.c2 { stroke: var(--c2); } svg rect.c2, svg text.c2 { fill: var(--c2); }
svg line.c3, svg path.line.c3 { stroke: var(--c3); } svg rect.c3, svg text.c3 { fill: var(--c3); }
.wide { overflow-x: auto; margin: 1.2rem 0 1.6rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem;
  min-width: 60%; } th { text-align: right; font-weight: 600; color: var(--soft); } td { text-align: right; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--edge); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.films { display: flex; flex-wrap: wrap; gap: 1.1rem 1.5rem; } .films figure { margin: 0; max-width: 100%; }
.films figcaption { margin: 0 0 .3rem; } .films small { display: block; font-weight: 400; line-height: 1.35; }
img { display: block; max-width: 100%; image-rendering: pixelated; border-radius: .3rem; }
pre { background: var(--card); border-radius: .6rem; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; font-size: .88rem; margin: 1rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
"""


class Section(NamedTuple):
    """A heading, what it shows in words, and its figures as HTML."""

    title: str
    text: str
    body: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One headline figure: what it is called, its value with unit, and what it has to be read against."""

    name: str
    value: str
    note: str


def page(title: str, text: str, figures: Sequence[Figure], sections: Iterable[Section]) -> str:
    """The whole page; every string but the bodies is escaped."""
    parts = [f"<h1>{escape(title)}</h1><p class='soft'>{escape(text)}</p>", headline(figures)]
    parts += [f"<h2>{escape(each.title)}</h2><p>{escape(each.text)}</p>{each.body}" for each in sections]
    head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
    return (
        f"<!doctype html><html lang='en'><head>{head}<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def headline(figures: Sequence[Figure]) -> str:
    cells = [
        f"<div><span>{escape(each.name)}</span><b>{escape(each.value)}</b><small>{escape(each.note)}</small></div>"
        for each in figures
    ]
    kind = "figures thirds" if len(cells) % 3 == 0 else "figures"
    return f"<div class='{kind}'>{''.join(cells)}</div>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Text to the left, figures to the right."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='wide'><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def bars(head: str, unit: str, entries: Sequence[tuple[str, float, bool]], form: str = ",.0f") -> str:
    """One bar for each (name, value, whether it counts), as long as its value; those that do not count are pale."""
    most = max(value for _, value, _ in entries)
    lines = [
        f"<tr><td>{escape(name)}</td><td style='width:60%'><div style='height:.8rem;border-radius:.2rem;"
        f"background:var(--c0);opacity:{1 if counts else 0.35};width:{value / most:.1%}'>"
        f"</div></td><td>{value:{form}}</td></tr>"
        for name, value, counts in entries
    ]
    top = f"<thead><tr><th>{escape(head)}</th><th></th><th>{escape(unit)}</th></tr></thead>"
    return f"<div class='wide'><table style='width:100%'>{top}<tbody>{''.join(lines)}</tbody></table></div>"


def row(*bodies: str) -> str:
    """Charts side by side where the page is wide enough."""
    return f"<div class='row'>{''.join(bodies)}</div>"


def picture(png: bytes, title: str, note: str, *, width: int) -> str:
    """A PNG or a moving PNG inside the page, `width` pixels wide."""
    data = base64.b64encode(png).decode()
    caption = f"<figcaption>{escape(title)}<small>{escape(note)}</small></figcaption>"
    source = f'src="data:image/png;base64,{data}"'
    return f'<figure style="width:{width}px">{caption}<img {source} alt="{escape(title)}" width="{width}"></figure>'


def films(pictures: Iterable[str]) -> str:
    return f"<div class='films'>{''.join(pictures)}</div>"


def environment(card: Mapping[str, object], command: str) -> Section:
    """What made the page: the command and the machine."""
    entries = "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(plain(value))}</dd>" for name, value in card.items())
    return Section("How it was measured", "The command, and the machine it ran on.",
                   f"<pre>{escape(command)}</pre><dl>{entries}</dl>")  # fmt: skip


def plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(inner)}" for name, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value)
