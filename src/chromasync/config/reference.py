"""The reference of all settings, for the documentation."""

from __future__ import annotations

from chromasync.config.fields import SettingInfo, field_extra
from chromasync.config.settings import Settings
from chromasync.config.shown import as_text


def settings_table() -> list[SettingInfo]:
    """One row for each setting, in the order of the documentation."""
    rows = []
    for name, field in Settings.model_fields.items():
        extra = field_extra(field)
        default = extra["shown"] or as_text(name, field.default)
        meaning = field.description or ""
        rows.append(SettingInfo(name.upper(), extra["group"], default, extra["allowed"], meaning))
    return rows
