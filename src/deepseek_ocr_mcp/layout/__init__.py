"""Lines of text become reading order, tables, lists, headings, Markdown and search hits."""
