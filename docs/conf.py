"""How Sphinx builds these pages: sphinx-build -W docs docs/_build."""

project = "django-synchro"
copyright = "2026, the django-synchro contributors"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
# Headings can be linked to by their text, as on the pages of a forge.
myst_heading_anchors = 3
