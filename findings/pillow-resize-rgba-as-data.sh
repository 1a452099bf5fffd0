#!/usr/bin/env bash
# Pillow's resize of a four-band image changes the first three bands by what is in the fourth.
#
# Guess:    resize works band by band: an image of constant red, green and blue stays constant, whatever band four
#           holds.
# Versions: pillow 13.0.0, numpy 2.3.5
# Instead:  four bands are RGBA to Image.fromarray, and RGBA is multiplied by alpha, rounded to 8 bits, resampled and
#           divided again. With band four between 0 and 5 the constant 200 comes back as 127 to 255; where it is 0 the
#           colour is gone (0). The same bytes as CMYK are resampled band by band and stay 200.
# Means:    near infrared, depth or a mask as a fourth channel spoils the three others in every resize, most where it is
#           dark, and augmentations with resized crops do it at random. Resize bands apart, or label the image CMYK or
#           RGBX.
# Seen:     2026-11-30
#           constant 200 in three bands; as RGBA: 127 to 255, where band four is 0: 0
#           as CMYK: 200 to 200
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pillow==13.0.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
from PIL import Image

random = np.random.default_rng(0)
bands = np.full((64, 64, 4), 200, np.uint8)
bands[..., 3] = random.integers(0, 6, (64, 64))
bands[:16, :16, 3] = 0
small = np.asarray(Image.fromarray(bands).resize((32, 32), Image.Resampling.BILINEAR))[..., :3]
other = np.asarray(Image.frombytes("CMYK", (64, 64), bands.tobytes()).resize((32, 32), Image.Resampling.BILINEAR))[
    ..., :3
]
print(
    f"constant 200 in three bands; as RGBA: {small[10:].min()} to {small[10:].max()}, where band four is 0: "
    f"{small[:6, :6].max()}"
)
print(f"as CMYK: {other.min()} to {other.max()}")
raise SystemExit(
    0 if small[10:].max() - small[10:].min() > 50 and small[:6, :6].max() == 0 and np.all(other == 200) else 1
)
PY
