#!/usr/bin/env bash
# The same 5.1 file has its channels in another order in soundfile than in PyAV, depending on the codec.
#
# Guess:    channel 3 is the centre in both readers, whatever the container, as in WAV (FL FR FC LFE BL BR).
# Versions: soundfile 0.14.0, av 18.1.0 (FFmpeg 8), numpy 2.3.5
# Instead:  soundfile hands channels to Vorbis, Opus and ALAC as they stand and takes them back as they stand. Those
#           codecs define an order of their own (Vorbis: FL FC FR BL BR LFE; ALAC: FC FL FR BL BR LFE), and FFmpeg
#           translates it to WAV's order. So a file from one is permuted in the other. Of one tone a channel, channel 4
#           of 60 Hz, PyAV finds it as a surround channel, and what went in as the last channel went through the
#           encoder's bass channel: in Vorbis and Opus it is lost. WAV and FLAC agree.
# Means:    "take channel 0" or "take the centre" picks another microphone after a lossless-looking conversion, and an
#           array recording of six microphones put into Vorbis or Opus loses one of them. Keep more than two channels in
#           WAV or FLAC.
# Seen:     2026-11-30
#           WAV  PCM_16  soundfile [300, 500, 800, 60, 1100, 1500]  PyAV [300, 500, 800, 60, 1100, 1500]
#           FLAC PCM_16  soundfile [300, 500, 800, 60, 1100, 1500]  PyAV [300, 500, 800, 60, 1100, 1500]
#           OGG  VORBIS  soundfile [300, 500, 800, 60, 1100, 0]  PyAV [300, 800, 500, 0, 60, 1100]
#           OGG  OPUS    soundfile [300, 500, 800, 60, 1100, 0]  PyAV [300, 800, 500, 0, 60, 1100]
#           CAF  ALAC_16 soundfile [300, 500, 800, 60, 1100, 1500]  PyAV [500, 800, 300, 1500, 60, 1100]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet soundfile==0.14.0 av==18.1.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import io

import av
import numpy as np
import soundfile as sf

rate, tones = 48000, [300, 500, 800, 60, 1100, 1500]
wave = np.stack([0.3 * np.sin(2 * np.pi * tone * np.arange(rate) / rate) for tone in tones], 1)


def loudest(channels):
    spectra = [np.abs(np.fft.rfft(channel[8000:32000].astype(float))) for channel in channels]
    return [int(2 * np.argmax(spectrum)) if spectrum.max() > 1 else 0 for spectrum in spectra]


found = {}
for container, codec in (
    ("WAV", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("CAF", "ALAC_16"),
):
    file = io.BytesIO()
    sf.write(file, wave, rate, format=container, subtype=codec)
    file.seek(0)
    one = loudest(sf.read(file)[0].T)
    file.seek(0)
    with av.open(file) as opened:
        frames = list(opened.decode(audio=0))
    blocks = [frame.to_ndarray() for frame in frames]
    if not frames[0].format.is_planar:
        blocks = [block.reshape(-1, 6).T for block in blocks]
    other = loudest(np.concatenate(blocks, 1))
    found[codec, container] = one, other
    print(f"{container:4} {codec:7} soundfile {one}  PyAV {other}")
same = all(found["PCM_16", name] == (tones, tones) for name in ("WAV", "FLAC"))
moved = all(
    one[:2] == tones[:2] and other[:2] != tones[:2] for (codec, _), (one, other) in found.items() if codec != "PCM_16"
)
raise SystemExit(0 if same and moved else 1)
PY
