#!/usr/bin/env bash
# Ids that travel with boxes through albumentations come back as floats, and as others beyond 16.7 million.
#
# Guess:    label_fields are carried along; the ids of the boxes that are left are the ids that went in.
# Versions: albumentations 2.0.8, numpy 2.3.5, opencv-python-headless 4.13.0.92
# Instead:  numbers are put beside the coordinates, in their float32. The twelve-digit ids of COCO's crowd annotations
#           become those of nothing, and neighbouring ids one. From an array of int64 they come back as int64, as wrong.
#           Strings come back as they are, unless the same Compose saw numbers first: then "7" becomes 7.0.
# Means:    matching augmented boxes or keypoints with their annotations by id fails, or finds a wrong one, without an
#           error. Pass positions in the list, or only strings.
# Seen:     2026-12-01
#           in: [1768413, 16777216, 16777217, 900100581904]
#           list: [1768413.0, 16777216.0, 16777216.0, 900100587520.0]
#           array: [1768413, 16777216, 16777216, 900100587520], type int64
#           strings: ['1768413', '16777216', '16777217', '900100581904']; after numbers: [7.0]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet albumentations==2.0.8 numpy==2.3.5 opencv-python-headless==4.13.0.92
cd "$work"
venv/bin/python - <<'PY'
import albumentations
import numpy as np

image = np.zeros((100, 100, 3), np.uint8)
ids = [1768413, 16777216, 16777217, 900100581904]


def flip() -> albumentations.Compose:
    boxes = albumentations.BboxParams(format="coco", label_fields=["ids"])
    return albumentations.Compose([albumentations.HorizontalFlip(p=1)], bbox_params=boxes)


def back(transform: albumentations.Compose, ids: object) -> list:
    return list(transform(image=image, bboxes=[[10, 10, 20, 20]] * len(ids), ids=ids)["ids"])


print(f"in: {ids}")
used = flip()
numbers, array, strings = back(used, ids), back(flip(), np.array(ids)), back(flip(), [str(i) for i in ids])
print(f"list: {numbers}")
print(f"array: {[int(i) for i in array]}, type {type(array[0]).__name__}")
print(f"strings: {strings}; after numbers: {back(used, ['007'])}")
wrong = numbers[1] == numbers[2] == 16777216 and numbers[3] != ids[3] and list(array) == numbers
raise SystemExit(0 if wrong and strings == [str(i) for i in ids] and back(used, ["007"]) == [7.0] else 1)
PY
