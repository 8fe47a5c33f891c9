"""Where the shared cache and its options are named, and what they may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rows import for_each

from hda_fsspec.errors import ConfigurationError
from hda_fsspec.settings import Settings

SECRET = "a-secret-of-the-bucket"


@for_each(
    ("given", "environment", "url", "options"),
    [
        ({"shared_cache": "s3://bucket/p/"}, {}, "s3://bucket/p/", {}),
        ({"shared_cache": "/data/shared"}, {}, "file:///data/shared", {}),
        ({"shared_cache": "file:///data/shared/"}, {}, "file:///data/shared", {}),
        ({"shared_cache": Path("/data/shared")}, {}, "file:///data/shared", {}),
        ({"shared_cache": "FILE:///data/a b"}, {}, "file:///data/a b", {}),
        ({"shared_cache": "S3://bucket/p"}, {}, "s3://bucket/p", {}),
        ({"shared_cache": "abfs://c@account.dfs.core/x"}, {}, "abfs://c@account.dfs.core/x", {}),
        ({"shared_cache": "sftp://me@host:22/x"}, {}, "sftp://me@host:22/x", {}),
        ({"shared_cache": "none"}, {"HDA_SHARED_CACHE": "memory://x"}, None, {}),
        ({}, {"HDA_SHARED_CACHE": "memory://x"}, "memory://x", {}),
        (
            {},
            {
                "HDA_SHARED_CACHE": "s3://bucket",
                "HDA_SHARED_CACHE_OPTIONS": '{"anon": true, "client_kwargs": {"a": 1}}',
            },
            "s3://bucket",
            {"anon": True, "client_kwargs": {"a": 1}},
        ),
        ({}, {}, None, {}),
    ],
)
def test_where_the_setting_comes_from(
    given: dict[str, Any],
    environment: dict[str, str],
    url: str | None,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Address and options come from an argument or the environment, there as JSON."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    settings = Settings.resolve(**given)

    assert settings.shared_cache == url
    assert settings.shared_cache_options == options
    assert hash(settings) == hash(Settings.resolve(**given))


@for_each(
    ("given", "told"),
    [
        ({"shared_cache": "hda://EO:X"}, "filesystem that can be written to"),
        ({"shared_cache": "zip://a::s3://bucket/b.zip"}, "filesystem that can be written to"),
        ({"shared_cache": f"s3://me:{SECRET}@bucket/x"}, "in shared_cache_options"),
        ({"shared_cache": f"ftp://me:pa/{SECRET}@host/x"}, "in shared_cache_options"),
        ({"shared_cache": f"s3://b/p?token={SECRET}"}, "in shared_cache_options"),
        ({"shared_cache": f"simplecache::https://h/x?sig={SECRET}"}, "an address such as"),
        ({"shared_cache": "s3://bucket/../x"}, "without"),
        ({"shared_cache": "nothing-known://bucket"}, "fsspec knows no filesystem"),
        ({"shared_cache": "shared"}, "an address such as"),
        ({"shared_cache": "memory:x"}, "an address such as"),
        ({"shared_cache": True}, "an address such as"),
        ({"shared_cache": ""}, "an address such as"),
        ({"shared_cache_options": "[" * 100_000}, "as JSON"),
        ({"shared_cache_options": f'{{"key": "{SECRET}"'}, "as JSON"),
        ({"shared_cache_options": [SECRET]}, "a dict of storage options"),
        ({"shared_cache_options": {1: SECRET}}, "a dict of storage options"),
    ],
)
def test_values_that_cannot_be_used(given: dict[str, Any], told: str) -> None:
    """A value that is none is refused at once, without showing a secret."""
    with pytest.raises(ConfigurationError, match=told) as caught:
        Settings.resolve(**given)

    assert SECRET not in str(caught.value)
