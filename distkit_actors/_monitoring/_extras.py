"""What is said where a library is missing that one kind of monitoring needs."""

from __future__ import annotations


def explained(
    error: ModuleNotFoundError, *, module: str, distribution: str, extra: str
) -> ModuleNotFoundError:
    """Return what to install, if it is ``module`` that is missing; else ``error``."""
    if (error.name or "").partition(".")[0] != module:
        return error
    return ModuleNotFoundError(
        f"distkit_actors.{extra} needs {distribution}: pip install 'distkit-actors[{extra}]'",
        name=error.name,
    )
