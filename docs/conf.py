"""Settings of the documentation: ``nox -s docs`` builds pages and man pages, and takes a warning for an error."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bundle import __version__

project = "sysvm-livepatch"
author = "the authors of sysvm-livepatch"
version = release = __version__
extensions = ["myst_parser", "sphinx_click"]
myst_enable_extensions = ["deflist", "fieldlist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"sysvm-livepatch {version}"
exclude_patterns = ["_build"]
# The page of commands is the reference for people at a prompt, too.
man_pages = [
    ("cli", "sysvm", "build and test live patches of Apache CloudStack system VMs", [author], 1),
    ("options", "sysvm-options", "options of sysvm, and what each means", [author], 7),
]
