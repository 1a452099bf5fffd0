#!/usr/bin/env bash
# A class that is called "train" is the only one that datasets loads from a folder of pictures, and without labels.
#
# Guess:    imagefolder of car/, bus/ and train/ gives one split with three classes, as torchvision's ImageFolder does.
# Versions: datasets 5.2.0, pillow 13.0.0
# Instead:  words in paths decide on splits before folders decide on classes: train/ becomes the split "train", all files whose path
#           has no such word are left out, and with one class left there is no label column. "test", "testing", "dev", "val",
#           "valid", "eval" and "evaluation" work alike, in file names too: of four birds, one named dev_0.png, only that one is
#           loaded. No warning in either case.
# Means:    CIFAR-100, COCO and ESC-50 have a class "train", and a kit of commands may have "test". audiofolder shares the
#           code. Count the rows, or pass data_files={"train": "pictures/**"}.
# Seen:     2026-11-30
#           car, bus, train, 4 pictures each: {'train': (4, ['image'])}
#           birds 1.png, 2.png, 3.png and dev_0.png: {'validation': (1, ['image'])}
#           data_files={"train": "pictures/**"}: {'train': (12, ['image', 'label'])}, classes ['bus', 'car', 'train']
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet datasets==5.2.0 pillow==13.0.0
cd "$work"
export HF_HOME="$work/cache" HF_HUB_OFFLINE=1
venv/bin/python - <<'PY'
from pathlib import Path

from datasets import disable_progress_bars, load_dataset
from PIL import Image

disable_progress_bars()


def picture(path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (len(path) * 9, 90, 40)).save(path)


for label in ("car", "bus", "train"):
    for number in range(4):
        picture(f"pictures/{label}/{number}.png")
for name in ("dev_0", "1", "2", "3"):
    picture(f"birds/bird/{name}.png")


def found(**arguments) -> tuple[dict, dict]:
    splits = load_dataset("imagefolder", **arguments)
    return splits, {name: (len(rows), list(rows.features)) for name, rows in splits.items()}


_, classes = found(data_dir="pictures")
print("car, bus, train, 4 pictures each:", classes)
_, birds = found(data_dir="birds")
print("birds 1.png, 2.png, 3.png and dev_0.png:", birds)
splits, whole = found(data_files={"train": "pictures/**"})
names = splits["train"].features["label"].names
print(f'data_files={{"train": "pictures/**"}}: {whole}, classes {names}')
raise SystemExit(
    0
    if classes == {"train": (4, ["image"])}
    and birds == {"validation": (1, ["image"])}
    and whole == {"train": (12, ["image", "label"])}
    and names == ["bus", "car", "train"]
    else 1
)
PY
