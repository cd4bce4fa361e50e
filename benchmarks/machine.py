"""What is worth knowing of where it was measured. Nothing that names the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform

from tests.harness.server import RedisServer

_PACKAGES = (
    "trio",
    "redis",
    "hiredis",
    "trio-asyncio",
    "coredis",
    "prometheus-client",
)


def facts(server: RedisServer) -> dict[str, str | int]:
    """Return what the figures depend on."""
    found: dict[str, str | int] = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cores(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "redis-server": ".".join(map(str, server.version)),
    }
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _cores() -> int:
    return os.cpu_count() or 1
