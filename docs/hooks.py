"""Changes to pages of the site, made by mkdocs while it builds them."""

from __future__ import annotations

import re

#: What Sphinx would make links of, as it comes out of mkdocs.
_ROLE = re.compile(r":[a-z]+:(?=<code>)")


def on_page_content(html: str, **_: object) -> str:
    """Return a page on which names in docstrings are code, without the roles that they have there.

    >>> on_page_content("<p>See :class:<code>Location</code>.</p>")
    '<p>See <code>Location</code>.</p>'
    """
    return _ROLE.sub("", html)
