"""Views as a browser draws them, in light and dark; the pictures are kept to be looked at."""

from __future__ import annotations

import shutil
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Bench

from hda_fsspec.emulator import dated_product
from hda_fsspec.planning.plan import plan_of

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
#: What chooses the theme of the system, its ground, and the colours of the three states on it.
THEMES = {
    "light": ("1", (255, 255, 255), [(21, 128, 61), (180, 83, 9), (59, 111, 182)]),
    "dark": ("0", (22, 25, 29), [(74, 222, 128), (251, 191, 36), (138, 180, 248)]),
}


@pytest.fixture(scope="module")
def browser() -> str:
    """Return the program of a browser."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium is on the PATH")
    return found


def _page(bench: Bench) -> str:
    """Return a page with a view of each kind."""
    products = []
    for day in range(1, 32):
        x, y = day * 37 % 360 - 180, day * 17 % 120 - 60
        ring = [[x, y], [x + 20, y + 3], [x + 18, y + 15], [x - 2, y + 12], [x, y]]
        ring = [[(lon + 180) % 360 - 180, lat] for lon, lat in ring]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        products.append(dated_product(bench.product_id(day), bench.body(day), geometry=geometry))
    entry = {"title": "Sea surface <temperature>", "parameters": {"timeliness": ["NR", "NT"]}}
    fs = bench.filesystem(bench.start(products=products, entry=entry, quota=100))
    view = fs.query(bench.query)
    fs.prefetch(view[:10].paths)
    for product in view[10:14]:
        fs._client._orders.place(product, "an-id", time.time())
    views: list[Any] = [view, fs.datasets(), fs.queryables(bench.dataset)]
    views.append(plan_of(fs._client, list(view)))
    return "<!doctype html><meta charset='utf-8'>" + "".join(one._repr_html_() for one in views)


def _picture(browser: str, page: Path, target: Path, scheme: str) -> Any:
    """Return the pixels of a page: row, column, and red, green and blue."""
    import rasterio

    subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            f"--user-data-dir={page.parent / 'profile'}",
            f"--blink-settings=preferredColorScheme={scheme}",
            "--window-size=1000,1900",
            f"--screenshot={target}",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=100,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a picture lies nowhere on the Earth
        with rasterio.open(target) as picture:
            return np.moveaxis(picture.read((1, 2, 3)), 0, -1).astype(int)


@pytest.mark.browser
def test_views_are_drawn_in_light_and_dark(
    browser: str, bench: Bench, tmp_path: Path, record_property: Any
) -> None:
    """Neither picture is blank: ground, text, land and all three states are in it."""
    page = tmp_path / "views.html"
    page.write_text(_page(bench), encoding="utf-8")
    for name, (scheme, ground, states) in THEMES.items():
        target = tmp_path / f"views-{name}.png"
        pixels = _picture(browser, page, target, scheme)
        record_property(name, str(target))

        assert tuple(pixels[15, 900]) == ground
        assert len(np.unique(pixels @ (1 << 16, 1 << 8, 1))) > 100
        for state in states:
            assert (pixels == state).all(axis=-1).sum() > 100, (name, state)
        text = np.abs(pixels - ground).sum(axis=-1) > 450
        assert text.any(axis=1).sum() > 400  # rows of pixels with text or lines, down the page
