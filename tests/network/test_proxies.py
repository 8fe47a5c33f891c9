"""Proxies of the environment, which must not stand between us and this machine."""

from __future__ import annotations

from typing import Any

import pytest


def test_no_proxy_stands_before_loopback(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator is reached directly, whatever proxy the environment names."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    emulator = bench.start(days=1)

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)
