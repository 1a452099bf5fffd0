import pickle

import numpy as np
import pyarrow as pa
import pytest

from d2v.data.store import ShardReader, ShardWriter, shard_path
from d2v.errors import DataError

SCHEMA = pa.schema([("label", pa.int64()), ("data", pa.large_binary())])


def write(folder, values, shard_bytes=30):
    writer = ShardWriter(folder, SCHEMA, shard_bytes)
    for label, data in enumerate(values):
        writer.append({"label": label, "data": data})
    writer.flush()
    return writer


def test_rows_come_back_over_shard_borders(tmp_path):
    values = [bytes([n]) * (1 + n % 7) for n in range(40)]
    writer = write(tmp_path, values)
    assert writer.shards > 3
    reader = ShardReader(tmp_path)
    assert len(reader) == 40
    assert [reader.binary("data", row) for row in range(40)] == values
    assert reader.integers("label").tolist() == list(range(40))
    assert list(reader.column("label")) == list(range(40))


def test_large_values_are_seen_where_they_lie(tmp_path):
    values = [bytes(range(n)) for n in range(20)]
    write(tmp_path, values)
    reader = ShardReader(tmp_path)
    views = [reader.view("data", row) for row in range(20)]
    assert [view.tobytes() for view in views] == values
    assert not any(view.flags.owndata or view.flags.writeable for view in views)
    assert pickle.loads(pickle.dumps(reader)).view("data", 7).tobytes() == values[7]


def test_columns_of_fractions_are_one_array(tmp_path):
    writer = ShardWriter(tmp_path, pa.schema([("mean", pa.float32()), ("data", pa.large_binary())]), shard_bytes=20)
    for n in range(9):
        writer.append({"mean": n / 4, "data": b"x" * 9})
    writer.flush()
    means = ShardReader(tmp_path).floats("mean")
    assert (means.dtype, means.tolist()) == (np.float32, [n / 4 for n in range(9)])


def test_fixed_size_rows_are_gathered_from_several_shards(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (25, 12), dtype=np.uint8)
    writer = ShardWriter(tmp_path, pa.schema([("data", pa.binary(12))]), shard_bytes=60)
    for row in rows:
        writer.append({"data": row.tobytes()})
    writer.flush()
    reader = ShardReader(tmp_path)
    order = np.random.default_rng(1).permutation(25)
    assert np.array_equal(reader.fixed("data", order), rows[order])
    assert np.array_equal(pickle.loads(pickle.dumps(reader)).fixed("data", [24, 0]), rows[[24, 0]])


def test_a_killed_writer_leaves_whole_shards_only(tmp_path):
    writer = ShardWriter(tmp_path, SCHEMA, shard_bytes=10)
    writer.append({"label": 0, "data": b"0123456789"})
    writer.append({"label": 1, "data": b"lost"})
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.arrow"]


def test_a_damaged_shard_names_itself(tmp_path):
    write(tmp_path, [b"abc"])
    path = shard_path(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="part-00000"):
        ShardReader(tmp_path)


def test_an_empty_folder_has_no_rows(tmp_path):
    reader = ShardReader(tmp_path)
    assert len(reader) == 0
    assert reader.integers("label").tolist() == []
