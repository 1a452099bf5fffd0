"""Steps on a cluster, with the bytes that one process writes.

    driver                                   workers of a dask cluster
    ------                                   -------------------------
    cuts the items into pieces        ->     read a piece: records of its items into a file, facts into another
    goes through the facts, in order:
    duplicates, splits, borders of shards -> write a shard: rows of some pieces, as one process would
    manifest, tables, digests, swap in

Only numbers go through the scheduler. Every file is written under another name and renamed, so a worker, the scheduler
or the driver may die at any time: what is there is not done again. `client` speaks with dask, and nothing else does.
"""
