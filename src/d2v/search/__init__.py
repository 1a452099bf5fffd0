"""Search in one's own files: an index of vectors on disk (`index`), questions to it (`query`), near-duplicates and
outliers (`reports`), and the page that shows what was found (`page`).

>>> from d2v.search.index import Index  # doctest: +SKIP
>>> Index.build(model, [Path("photos")], Path("photos.index")).search(model, Path("cat.jpg"))  # doctest: +SKIP
"""
