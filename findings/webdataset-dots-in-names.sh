#!/usr/bin/env bash
# Two recordings whose names have a dot become one sample, in webdataset and in datasets.
#
# Guess:    the extension begins at the last dot, so utt_0.95.txt and utt_0.97.txt are two samples with a field "txt".
# Versions: webdataset 1.0.2, datasets 5.2.0
# Instead:  the key ends at the first dot of the file's name. Both files belong to key utt_0, with fields "95.txt" and
#           "97.txt". One sample, no error from either library; with an unlike number of files a group datasets refuses
#           the archive, webdataset does not.
# Means:    scores, speeds, times and versions in file names ("rec_2024.01.05", "x_sp0.9") shrink a corpus several
#           times, and the field that is looked for is missing or found once. Replace dots in keys when writing, and
#           compare the count of samples.
# Seen:     2026-11-30
#           4 recordings written; webdataset reads 3 samples: [['95.cls', '95.txt', '97.cls', '97.txt'], ['00.cls', '00.txt'], ['cls', 'txt']]
#           2 recordings written; datasets reads 1 samples: [['95.txt', '97.txt']]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet webdataset==1.0.2 datasets==5.2.0
cd "$work"
venv/bin/python - <<'PY'
import io
import tarfile

import datasets
import webdataset

datasets.disable_progress_bars()
names = ["utt_0.95", "utt_0.97", "utt_1.00", "other"]
with tarfile.open("shard.tar", "w") as archive:
    for name in names:
        for ending in ("txt", "cls"):
            member = tarfile.TarInfo(f"{name}.{ending}")
            member.size = 1
            archive.addfile(member, io.BytesIO(b"1"))
one = [
    sorted(field for field in sample if not field.startswith("__"))
    for sample in webdataset.WebDataset("shard.tar", shardshuffle=False)
]
print(f"{len(names)} recordings written; webdataset reads {len(one)} samples: {one}")
with tarfile.open("two.tar", "w") as archive:
    for name in names[:2]:
        member = tarfile.TarInfo(f"{name}.txt")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"1"))
other = list(datasets.load_dataset("webdataset", data_files="two.tar", split="train", streaming=True))
fields = [sorted(field for field in sample if not field.startswith("__")) for sample in other]
print(f"2 recordings written; datasets reads {len(other)} samples: {fields}")
raise SystemExit(0 if len(one) == 3 and fields == [["95.txt", "97.txt"]] else 1)
PY
