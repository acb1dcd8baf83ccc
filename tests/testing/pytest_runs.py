"""What runs of pytest in tests have in common."""

from importlib.metadata import entry_points

__all__ = ["PLUGIN"]

# Where the package is not installed with its entry points, such as from a source folder.
INSTALLED = any(each.name == "penstock" for each in entry_points(group="pytest11"))
PLUGIN = [] if INSTALLED else ["-p", "penstock.pytest_plugin"]
