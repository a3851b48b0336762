"""Sphinx builds these pages: ``sphinx-build -W --keep-going docs FOLDER``, with the extra ``docs``.

Every link to a page, a heading or a file of the project is checked: one that leads nowhere is a
warning, and warnings are errors.
"""

from dicomguard.version import VERSION

project = "dicomguard"
release = VERSION
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
html_theme = "furo"
html_title = f"dicomguard {release}"
html_show_copyright = False
