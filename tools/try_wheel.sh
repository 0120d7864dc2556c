#!/usr/bin/env bash
# Installs a wheel as a stranger would, into a bare virtual environment, and uses it from an empty folder:
#
#   tools/try_wheel.sh llamatok-0.1.0-cp310-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl
#   PYTHON=python3.14 tools/try_wheel.sh ...
#
# Where mypy is in the path, a program of a user is checked against what is installed.
set -euo pipefail

wheel=$(realpath "$1")
program=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../tests/packaging")/user_program.py
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV

size=$(stat --format=%s "$wheel")
echo "$(basename "$wheel"): $size bytes"
((size < 4000000)) || { echo "the wheel is larger than 4 MB" >&2; exit 1; }

"${PYTHON:-python3}" -m venv "$room/venv"
bin=$room/venv/bin
"$bin/pip" install --quiet "$wheel"
mkdir "$room/empty"
cd "$room/empty"

"$bin/pip" check
others=$("$bin/pip" list --format=freeze | grep -vE '^(llamatok|numpy|pip|setuptools)==' || true)
[[ -z $others ]] || { echo "not only NumPy came along: $others" >&2; exit 1; }

text='Hello from a llama 🦙'
echo "$text" | "$bin/llamatok" encode --pieces
# The newline belongs to the text.
back=$(echo "$text" | "$bin/llamatok" encode | "$bin/llamatok" decode)
[[ $back == "$text" ]] || { echo "llamatok decode: $back" >&2; exit 1; }

"$bin/python" -I - "$text" <<'PYTHON'
import sys

import numpy as np

import llamatok
from llamatok import LlamaTokenizer, Tokenizer

text = sys.argv[1]
assert llamatok.__file__.startswith(sys.prefix), llamatok.__file__
tok = Tokenizer.default()
ids = tok.encode(text, add_bos=True)
assert ids[0] == tok.bos_id and tok.decode(ids, skip_special_tokens=True) == text
batch = tok.encode_batch([text, "", "x"])
assert batch.ids.dtype == np.uint32 and tok.decode_batch(batch) == [text, "", "x"]
drop_in = LlamaTokenizer.from_pretrained(llamatok.demo_checkpoint(), pad_token="</s>")
padded = drop_in([text, "x"], padding=True, return_tensors="np")
assert drop_in.batch_decode(padded["input_ids"], skip_special_tokens=True) == [text, "x"]
decoder = tok.stream_decoder()
assert "".join(map(decoder.push, ids[1:])) + decoder.finish() == text
print(f"llamatok {llamatok.__version__} on Python {sys.version.split()[0]}")
PYTHON

if command -v mypy > /dev/null; then
    mypy --strict --config-file= --follow-imports=silent --cache-dir="$room/cache" \
        --python-executable "$bin/python" "$program"
fi
[[ -z $(ls -A) ]] || { echo "left behind in the working folder: $(ls -A)" >&2; exit 1; }
