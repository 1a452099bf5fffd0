"""Where items come from: files on any fsspec file system, archives, tables, arrays, named data sets."""
