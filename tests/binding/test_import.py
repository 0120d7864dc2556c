"""What `import llamatok` brings along."""

import subprocess
import sys


def modules_after(code):
    code += "\nimport sys; print('\\n'.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return set(out.split())


def test_import_is_light():
    loaded = modules_after("import llamatok")
    assert not loaded & {"numpy", "pyarrow", "torch", "sentencepiece", "transformers"}


def test_lists_need_no_numpy():
    loaded = modules_after("import llamatok; t = llamatok.Tokenizer.default(); t.decode(t.encode('a'))")
    assert "numpy" not in loaded
    assert "llamatok" in loaded
