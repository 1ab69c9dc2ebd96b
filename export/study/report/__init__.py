"""A study's report: one HTML page, the same as Markdown, and its plots."""
