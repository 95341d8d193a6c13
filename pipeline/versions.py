"""Which version of a package is installed."""

from importlib.metadata import PackageNotFoundError, version


def installed_version(name: str) -> str | None:
    """Return the package's version, None where it is not installed, as MNN is not where it has no wheel."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
