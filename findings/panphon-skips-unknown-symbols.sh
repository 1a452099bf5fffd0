#!/usr/bin/env bash
# panphon finds no difference between "chip" and "ip": unknown symbols do not count, and common ones are unknown.
#
# Guess:    a feature distance between different transcriptions is above 0, or an unknown symbol is an error.
# Versions: panphon 0.22.2, numpy 2.3.5
# Instead:  what is not in its table is dropped, without a word: a g from the keyboard (the table has U+0261), the
#           one-letter affricates, the r-coloured vowels (so the end of "water" as espeak writes it), capitals, digits.
#           The phoneme error rate of such an error is 0, too.
# Means:    systems whose output has more unknown symbols look better. Compare ipa_segs joined with the transcription
#           before you trust a distance, and replace symbols by what the table has.
# Seen:     2026-12-01
#           ʧɪp ɪp: feature distance 0.00, phoneme error rate 0.00, known of the first: ɪp
#           tʃɪp ɪp: feature distance 1.88, phoneme error rate 1.00
#           gɪt ɪt: feature distance 0.00, phoneme error rate 0.00, known of the first: ɪt
#           ɡɪt ɪt: feature distance 0.92, phoneme error rate 0.50
#           wɔːɾɚ wɔːɾ: feature distance 0.00, phoneme error rate 0.00, known of the first: wɔːɾ
#           bɝd bd: feature distance 0.00, phoneme error rate 0.00, known of the first: bd
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet panphon==0.22.2 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
from panphon import FeatureTable
from panphon.distance import Distance

table, distance = FeatureTable(), Distance()
pairs = {
    "ʧɪp": "ɪp",
    "tʃɪp": "ɪp",
    "gɪt": "ɪt",
    "\u0261ɪt": "ɪt",
    "wɔːɾɚ": "wɔːɾ",
    "bɝd": "bd",
}
seen = {}
for left, right in pairs.items():
    seen[left] = distance.feature_edit_distance(left, right), distance.phoneme_error_rate([left], [right])
    known = "" if "".join(table.ipa_segs(left)) == left else f", known of the first: {''.join(table.ipa_segs(left))}"
    print(f"{left} {right}: feature distance {seen[left][0]:.2f}, phoneme error rate {seen[left][1]:.2f}{known}")
values = list(seen.values())
unseen = all(values[place] == (0, 0) for place in (0, 2, 4, 5))
raise SystemExit(0 if unseen and min(values[1] + values[3]) > 0 else 1)
PY
