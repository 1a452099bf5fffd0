"""Reports for people: tables, plots, model cards, and pages as markdown and self-contained HTML.

Nothing here measures anything; other rooms hand over their numbers.
"""
