#!/usr/bin/env bash
# Subtitle readers give transcripts with words missing and entities left in.
#
# Guess:    plaintext is what is shown: known tags (<b>, <i>) go, all other text stays; WebVTT's &lt; and &amp; become <
#           and &.
# Versions: pysubs2 1.8.1, webvtt-py 0.6.0
# Instead:  SRT, which has no escapes: both drop everything between < and >, so "if a < b and c > d" loses four words;
#           pysubs2 also drops {noise} in braces, as if it were an override of another format. WebVTT, which demands the
#           escapes: both keep "&lt;" and "&amp;" as they stand, and pysubs2 keeps karaoke times such as <00:00:03.500>
#           as text.
# Means:    transcripts for speech training lose words and noise marks that are spoken or annotated, and gain "amp".
#           Compare word counts of the raw file and the text; unescape WebVTT by html.unescape.
# Seen:     2026-11-30
#           pysubs2 srt: ['if a  d', ' yes', 'no']
#           webvtt srt: ['if a  d', '{noise} yes', 'no']
#           pysubs2 vtt: ['AT&amp;T is &lt; 5', 'fine <00:00:03.500>now']
#           webvtt vtt: ['AT&amp;T is &lt; 5', 'fine now']
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pysubs2==1.8.1 webvtt-py==0.6.0
cd "$work"
venv/bin/python - <<'PY'
import pathlib

import pysubs2
import webvtt

cue = "{number}\n00:00:0{number},000 --> 00:00:0{number},900\n{text}\n\n"
lines = ["if a < b and c > d", "{noise} yes", "<b>no</b>"]
srt = "".join(cue.format(number=number, text=text) for number, text in enumerate(lines, 1))
pathlib.Path("cues.srt").write_text(srt)
vtt = "WEBVTT\n\n00:01.000 --> 00:02.000\nAT&amp;T is &lt; 5\n\n00:03.000 --> 00:04.000\nfine <00:00:03.500>now\n"
pathlib.Path("cues.vtt").write_text(vtt)
seen = {
    "pysubs2 srt": [event.plaintext for event in pysubs2.load("cues.srt")],
    "webvtt srt": [caption.text for caption in webvtt.from_srt("cues.srt")],
    "pysubs2 vtt": [event.plaintext for event in pysubs2.load("cues.vtt")],
    "webvtt vtt": [caption.text for caption in webvtt.read("cues.vtt")],
}
for name, texts in seen.items():
    print(f"{name}: {texts}")
expected = {
    "pysubs2 srt": ["if a  d", " yes", "no"],
    "webvtt srt": ["if a  d", "{noise} yes", "no"],
    "pysubs2 vtt": ["AT&amp;T is &lt; 5", "fine <00:00:03.500>now"],
    "webvtt vtt": ["AT&amp;T is &lt; 5", "fine now"],
}
raise SystemExit(0 if seen == expected else 1)
PY
