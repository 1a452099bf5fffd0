"""Sources of items: files on any fsspec file system, archives, Parquet tables, arrays and named data sets.

Each of them becomes a `Source`: items in a fixed order, with names, labels and splits. The layout of folders and the
files beside the items say which split and class an item has.
"""
