"""The site of these pages: `sphinx-build -W docs build/docs`."""

import os
from importlib import metadata

project = "bnstream"
author = "The bnstream developers"
release = version = metadata.version("bnstream")

extensions = [
    "myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx_copybutton",
    "sphinxcontrib.programoutput",
]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb"}      # The first one is that of generated pages.
templates_path = ["_templates"]

html_theme = "pydata_sphinx_theme"
html_favicon = "favicon.svg"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_title = f"bnstream {release}"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False, "use_edit_page_button": False}
html_context = {"default_mode": "auto"}
html_sidebars = {"index": []}

myst_heading_anchors = 4        # for links to headings, as #momentum-ddof-and-eps
nb_execution_mode = "auto"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_render_markdown_format = "myst"      # Tables in what cells print are tables.
nb_merge_streams = True         # One box for what a cell prints.

autosummary_generate = True
autodoc_mock_imports = ["apache_beam", "mpi4py"]        # Their dependencies conflict with others, or need MPI.
autodoc_default_options = {"members": True, "inherited-members": True, "member-order": "bysource"}
autodoc_typehints = "none"      # The docstrings say what arguments are.
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

os.environ["COLUMNS"] = "100"   # of the help of the command
os.environ["TERM"] = "dumb"

# What lies above this folder has a page here.
ABOVE = {"../CONTRIBUTING.md": "contributing.md", "../SECURITY.md": "security.md", "../CHANGELOG.md": "changelog.md"}


def link_to_pages(app, name, source):
    up = "../" * name.count("/")        # from the folder of the page to this one
    for above, page in ABOVE.items():
        source[0] = source[0].replace(f"]({up}{above}", f"]({up}{page}")


def skip_others(app, what, name, member, skip, options):
    """Leave out what a class inherits from other packages."""
    module = getattr(getattr(member, "fget", member), "__module__", None) or "bnstream"
    return True if module.partition(".")[0] != "bnstream" else None


def setup(app):
    app.connect("source-read", link_to_pages)
    app.connect("autodoc-skip-member", skip_others)
