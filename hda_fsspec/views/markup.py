"""HTML and SVG made of elements: static, without scripts, and with every text escaped at the door.

Text from outside passes the one sanitiser, :mod:`hda_fsspec.printable`, and is escaped where an
element is made; only what elements are made of here is taken for markup.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from hda_fsspec.printable import escaped, printable


class Markup(str):
    """HTML that was made here, and is not escaped again."""

    __slots__ = ()


def element(name: str, *content: object, **attributes: object) -> Markup:
    """Return an element.

    Parameters
    ----------
    name : str
        Of the element.
    *content : Markup or object
        What stands in it; whatever is no markup is shown as text. None is nothing.
    **attributes : object
        Its attributes: ``class_`` is ``class``, other underscores are hyphens. None is none. Text
        is bounded in length; what is longer and was made here, as paths of pictures, is markup.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{joined(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{told}>{joined(*content)}</{name}>")


def joined(*content: object) -> Markup:
    """Return what stands one after the other."""
    return Markup(
        "".join(
            part if isinstance(part, Markup) else _quoted(part)
            for part in content
            if part is not None
        )
    )


def view(*content: object) -> str:
    """Return a whole view, which brings its own style, as a notebook takes it."""
    return str(element("div", Markup(f"<style>{_style()}</style>"), *content, class_="hda-view"))


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    classes: Sequence[str | None],
) -> Markup:
    """Return a table; ``classes`` are those of its columns.

    A row of one cell is as wide as the table, and says what is left out. Without titles it has no
    head.
    """
    titles = [
        element("th", title, class_="hda-number" if kind == "hda-number" else None)
        for title, kind in zip(head, classes, strict=True)
    ]
    lines = []
    for row in rows:
        if len(row) == 1:
            cell = element("td", row[0], colspan=len(head))
            lines.append(element("tr", cell, class_="hda-more"))
            continue
        cells = zip(row, classes, strict=True)
        lines.append(element("tr", *(element("td", cell, class_=kind) for cell, kind in cells)))
    top = element("thead", element("tr", *titles)) if any(head) else None
    return element("table", top, element("tbody", *lines))


def facts(pairs: Iterable[tuple[str, object]]) -> Markup:
    """Return short facts in a row, each with its name."""
    return element(
        "div",
        *(element("span", element("b", name), " ", told) for name, told in pairs),
        class_="hda-facts",
    )


def title(text: object) -> Markup:
    """Return the title of a view."""
    return element("div", text, class_="hda-title")


def path_line(path: str) -> Markup:
    """Return a path that is meant to be copied, whole."""
    # Without its middle it would not open.
    return element("div", Markup(html.escape(escaped(path))), class_="hda-path")


def note(text: object) -> Markup:
    """Return a remark."""
    return element("div", text, class_="hda-note")


def share(part: float, text: str) -> Markup:
    """Return a bar of which a part is there already, and what that says."""
    whole = 100.0
    done = whole * min(max(part, 0.0), 1.0)
    bar = element(
        "svg",
        element("rect", class_="hda-bar hda-missing", width=whole, height=6, fill_opacity=0.45),
        element("rect", class_="hda-bar hda-cached", width=f"{done:.2f}", height=6),
        viewBox="0 0 100 6",
        preserveAspectRatio="none",
        role="img",
        aria_label=text,
        class_="hda-share",
    )
    return joined(bar, note(text))


@functools.cache
def _style() -> str:
    """Return the style of all views.

    Colours follow the notebook's theme where it tells one (JupyterLab, VS Code), else the system's;
    lines and grounds are greys that can be seen on light and on dark.
    """
    return Path(__file__).with_name("style.css").read_text(encoding="utf-8").strip()


def _quoted(value: object) -> str:
    return html.escape(printable(value), quote=True)
