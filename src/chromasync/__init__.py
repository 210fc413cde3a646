"""Keeps a replica Chroma identical to its primary, provably.

The public names are loaded when they are first used, so that `import chromasync` and `chromasync
--help` stay fast. `__init__.pyi` declares the same names for type checkers.
"""

import sys
from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

_NAMES = {
    "chromasync.api": ("approve", "plan", "status", "sync", "verify"),
    "chromasync.service": ("Service",),
    "chromasync.config.from_keywords": ("Place",),
    "chromasync.keywords": ("SettingKeywords",),
    "chromasync.ports": ("Progress",),
    "chromasync.reports": (
        "CollectionReport",
        "CycleReport",
        "Finding",
        "Outcome",
        "PlanReport",
        "PlannedCollection",
        "StatusSnapshot",
        "VerifiedCollection",
        "VerifyReport",
    ),
    "chromasync.model": ("Hold", "MirrorStatus", "OpCounts"),
    "chromasync.errors": (
        "AnotherInstance",
        "AnotherStore",
        "ChromasyncError",
        "GuardRefusal",
        "Paused",
        "ReplicaPromoted",
        "ServerError",
        "ServerUnreachable",
        "SettingsError",
        "Stopped",
        "StoreError",
    ),
}
"""The public names, by the module that has them."""
_PLACES = {name: place for place, names in _NAMES.items() for name in names}
_MODULES = ("errors", "testing")
"""Public modules."""

__all__ = ["__version__", *_MODULES, *_PLACES]  # noqa: PLE0604 -- all of them are strings


def __getattr__(name: str) -> object:
    """Load a public name at its first use."""
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(place), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The package, in which a public name never means a module.

    `plan`, `status` and `verify` are functions, and there are modules with the same names. When
    Python loads such a module, it would put the module in the place of the function.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
