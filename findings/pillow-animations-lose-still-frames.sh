#!/usr/bin/env bash
# An animation saved by Pillow has fewer frames than were given to it, wherever nothing moves.
#
# Guess:    save(save_all=True) of ten pictures makes a file of ten frames.
# Versions: pillow 13.0.0, opencv-python-headless 5.0.0.93, numpy 2.3.5
# Instead:  equal neighbours become one frame that is shown longer, in GIF, PNG and WebP; AVIF and TIFF keep all ten. OpenCV counts
#           as Pillow does, so it is the file. GIF counts in hundredths of a second besides: 33 ms are 30.
# Means:    frame 7 of the video is frame 5 of the file: labels by frame, pairs of picture and mask animations, and clips of N
#           frames slip after the first still moment. Sum the durations, or store frames as TIFF or as files.
# Seen:     2026-11-30
#           gif: 7 of 10 frames, OpenCV 7, ms [40, 40, 120, 40, 80, 40, 40]
#           png: 7 of 10 frames, OpenCV 7, ms [40, 40, 120, 40, 80, 40, 40]
#           webp: 7 of 10 frames, OpenCV 7, ms [40, 40, 120, 40, 80, 40, 40]
#           avif: 10 of 10 frames, OpenCV 10, ms [40, 40, 40, 40, 40, 40, 40, 40, 40, 40]
#           tiff: 10 of 10 frames, OpenCV 10
#           gif of 33 ms a frame: 30
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pillow==13.0.0 opencv-python-headless==5.0.0.93 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import cv2
from PIL import Image, ImageSequence

frames = [Image.new("RGB", (16, 16), (grey, grey, grey)) for grey in (0, 40, 80, 80, 80, 120, 160, 160, 200, 240)]
counts = []
for kind, options in (
    ("gif", {"duration": 40}),
    ("png", {"duration": 40}),
    ("webp", {"duration": 40, "lossless": True}),
    ("avif", {"duration": 40}),
    ("tiff", {}),
):
    frames[0].save(f"clip.{kind}", save_all=True, append_images=frames[1:], **options)
    times = []
    with Image.open(f"clip.{kind}") as clip:
        for frame in ImageSequence.Iterator(clip):
            frame.load()
            times.append(int(frame.info.get("duration", 0)))
    other = len(cv2.imreadmulti(f"clip.{kind}")[1])
    counts.append((len(times), other))
    print(f"{kind}: {len(times)} of 10 frames, OpenCV {other}" + (f", ms {times}" if any(times) else ""))
    assert sum(times) in (400, 0)
frames[0].save("clip.gif", save_all=True, append_images=[frames[1], frames[2]], duration=33)
with Image.open("clip.gif") as clip:
    rounded = clip.info["duration"]
print("gif of 33 ms a frame:", rounded)
raise SystemExit(0 if counts == [(7, 7)] * 3 + [(10, 10)] * 2 and rounded == 30 else 1)
PY
