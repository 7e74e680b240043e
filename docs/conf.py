"""How Sphinx builds the site: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

import cnet_aihw

project = "cnet_aihw"
version = release = cnet_aihw.__version__
copyright = "the authors of cnet_aihw"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "configuration",
    "mathml",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
add_module_names = False
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "cnet_aihw"
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
