#!/usr/bin/env bash
# Reading credentials with Kedro takes OmegaConf's own resolver oc.env away from the whole process.
#
# Guess:    oc.env is built into OmegaConf; code that resolves ${oc.env:NAME} works before and after Kedro has read its configuration.
# Versions: kedro 1.7.0, omegaconf 2.3.0
# Instead:  OmegaConfigLoader["credentials"] registers oc.env for credentials alone, and afterwards clears it in OmegaConf's table, which
#           is one for the process. From then on every other ${oc.env:NAME}, in code that knows nothing of Kedro too, is an unsupported
#           interpolation.
# Means:    what resolves the environment beside Kedro registers omegaconf.resolvers.oc.env again if OmegaConf.has_resolver says no; tests
#           that pass alone and fail after others are a sign of it.
# Seen:     2026-11-30
#           before: 7
#           after credentials: UnsupportedInterpolationType
#           registered again: 7
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet kedro==1.7.0 omegaconf==2.3.0
mkdir -p "$work/conf/base" "$work/conf/local"
printf 'store:\n  token: none\n' > "$work/conf/local/credentials.yml"
cd "$work"
A_NUMBER=7 venv/bin/python - <<'PY'
from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf
from omegaconf.resolvers import oc


def resolved() -> str:
    try:
        return str(OmegaConf.create({"number": "${oc.env:A_NUMBER}"}).number)
    except Exception as error:
        return type(error).__name__


before = resolved()
print("before:", before)
OmegaConfigLoader("conf", base_env="base", default_run_env="local")["credentials"]
after = resolved()
print("after credentials:", after)
OmegaConf.register_new_resolver("oc.env", oc.env)
again = resolved()
print("registered again:", again)
assert (before, after, again) == ("7", "UnsupportedInterpolationType", "7")
PY
