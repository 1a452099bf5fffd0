import pyarrow.parquet as pq
import pytest

from d2v.data.ingest import MANIFEST
from d2v.modalities.speech.config import SpeechIngestConfig, SpeechPrepareConfig
from d2v.modalities.speech.modality import Speech
from d2v.modalities.speech.preparation import prepare


def test_spoken_sentences_become_a_store(tmp_path):
    config = SpeechIngestConfig(source="spoken", options={"count": 40, "test_count": 20, "speakers": 4})
    report = Speech().ingest(config, tmp_path / "corpus")
    assert (report.kept, report.quarantined, report.splits) == (60, 0, {"train": 40, "test": 20})
    rows = pq.read_table(tmp_path / "corpus" / MANIFEST).to_pylist()
    assert all(row["label"] in row["transcript"].split() and row["speaker"] for row in rows)
    about = prepare(SpeechPrepareConfig(min_seconds=1.0), tmp_path / "corpus", tmp_path / "prepared")
    assert (about["train_items"], about["test_items"], len(about["class_names"])) == (40, 20, 20)
    assert Speech().ingest(config, tmp_path / "corpus") == report


@pytest.mark.data
def test_librispeech_mini_is_probed_on_speakers_that_were_held_out(shared_data, tmp_path):
    source = shared_data / "speech" / "librispeech-mini" / "librispeech-mini.tar"
    report = Speech().ingest(SpeechIngestConfig(source=str(source)), tmp_path / "corpus")
    assert (report.kept, report.quarantined) == (340, 0)
    about = prepare(SpeechPrepareConfig(), tmp_path / "corpus", tmp_path / "prepared")
    assert about["class_names"] == ["19", "26", "27"]
    assert (about["probe_test_from"], about["held_out_items"]) == ("train", 14)
    assert about["train_items"] + about["held_out_items"] + about["short_items"] == 216
