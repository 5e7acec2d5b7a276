#!/bin/sh
# Install neural-tangents in a virtual environment of its own:
#     bench/peers/install.sh [VENV]
# PYTHON=python3.11 picks the interpreter. VENV defaults to where `widegram bench` looks first.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/widegram/peers/neural-tangents}
"${PYTHON:-python3}" -m venv "$venv"
# In two steps: pip's resolver would take a JAX too recent for the first.
"$venv/bin/pip" install --quiet neural-tangents==0.6.5
"$venv/bin/pip" install --quiet -r "$here/requirements.txt"
"$venv/bin/python" -c "import neural_tangents"
echo "installed; use it with: widegram bench kernels --peer neural-tangents --peer-python $venv/bin/python"
