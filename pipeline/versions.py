"""Which version of a package is installed."""

import platform
from importlib.metadata import PackageNotFoundError, version

from thaw.features.engines.backend import LIBRARIES, backend_name


def installed_version(name: str) -> str | None:
    """Return the package's version, None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a result depends on; Keras' backend is one of them."""
    names = (
        *LIBRARIES[backend_name()],
        "keras",
        "mnn",
        "onnxruntime",
        "scikit-learn",
        "numpy",
        "scipy",
        "h5py",
        "pillow",
    )
    installed = {name: installed_version(name) for name in names}
    return {"python": platform.python_version(), **{name: text for name, text in installed.items() if text}}
