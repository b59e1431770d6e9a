"""Where is the artifact set that comes with the product? Beside the code, in a checkout and in a wheel alike."""

from pathlib import Path

from mmd.errors import ArtifactRefused

# In a checkout a symbolic link to artifacts/digits; in a wheel a folder.
_SHIPPED = Path(__file__).resolve().parent.parent / "shipped"


def shipped_set() -> Path:
    """Return the folder of the shipped artifact set. Raises `ArtifactRefused` when the installation lacks it."""
    return _existing("set", "artifact set")


def shipped_owner() -> Path:
    """Return the folder of one real writer's digits, a folder per class. Raises `ArtifactRefused` without it."""
    return _existing("owner", "writer's digits")


def _existing(name: str, what: str) -> Path:
    folder = (_SHIPPED / name).resolve()
    if not folder.is_dir():
        raise ArtifactRefused(f"This installation of mmd-daemon carries no {what} ({folder}); install it again.")
    return folder
