"""Settings of the package: values, defaults, and where they come from."""

from hda_fsspec.settings.settings import (
    DEFAULT_URL,
    SECRET_SETTINGS,
    SETTING_NAMES,
    Settings,
    rc_path,
    refuse_unknown_settings,
)

__all__ = [
    "DEFAULT_URL",
    "SECRET_SETTINGS",
    "SETTING_NAMES",
    "Settings",
    "rc_path",
    "refuse_unknown_settings",
]
