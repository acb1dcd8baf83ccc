"""Builds Penstock's native modules through CMake and packages them with the Python sources below server/.

PENSTOCK_NATIVE=prebuilt leaves CMake out: for development, where `make` builds the modules incrementally in build/
and installs them beside the sources. Everyone else never sets it.
"""

import os

import setuptools
from scikit_build_core.setuptools.wrapper import setup

PACKAGING = {
    "package_dir": {"": "server"},
    "packages": setuptools.find_packages("server", include=["penstock", "penstock.*"]),
    "package_data": {
        "penstock": ["py.typed"],
        "penstock.control.grpc": ["*.binpb"],
        "penstock.native": ["*.pyi"],
        "penstock.store": ["migrations/*.sql"],
    },
}

if os.environ.get("PENSTOCK_NATIVE") == "prebuilt":
    setuptools.setup(**PACKAGING)
else:
    # CMake stages the modules and setuptools copies them: installing into server/ itself breaks an editable build.
    setup(cmake_source_dir=".", **PACKAGING)
