"""Every setting of the program: name, default, meaning, allowed values, and where it came from.

`load_settings` reads flags, environment and `chromasync.toml`, in this order of precedence;
`Settings(...)` takes values as they are and reads nothing.
"""

from chromasync.config.fields import (
    CONFIG_FILE,
    Drift,
    LogFormat,
    LogLevel,
    Origin,
    Role,
    ServerSettings,
    SettingInfo,
    SettingLine,
)
from chromasync.config.folders import folder_of
from chromasync.config.scope import Scope
from chromasync.config.settings import (
    DATABASE_FILE,
    Settings,
)
from chromasync.config.sources import load_settings
from chromasync.config.store_place import StorePlace
from chromasync.config.target import FROM, UNMADE, Target
from chromasync.config.values import MaxDelete, container_memory_mb

__all__ = [
    "CONFIG_FILE",
    "DATABASE_FILE",
    "FROM",
    "UNMADE",
    "Drift",
    "LogFormat",
    "LogLevel",
    "MaxDelete",
    "Origin",
    "Role",
    "Scope",
    "ServerSettings",
    "SettingInfo",
    "SettingLine",
    "Settings",
    "StorePlace",
    "Target",
    "container_memory_mb",
    "folder_of",
    "load_settings",
]
