"""Command line of the comparison: `python -m benches.compare` from the repository's root."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if not __package__:
    # Started as `python benches/compare`: make the package importable under its own name.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from benches.compare import documents, hard, report
from benches.compare.peers import DEFAULT, PEERS, REFERENCE, Files
from benches.compare.run import ROOT, Comparison, available_cores, new_report, say, scratch_folder

EPILOG = """\
example:
  python -m benches.compare --limit-mb 20 --output target/compare
  python -m benches.compare --corpus my.jsonl.zst --peers llamatok,gigatoken,sentencepiece
  python -m benches.compare --hard --peers llamatok,gigatoken
"""


def main() -> int:
    """Run the comparison; 0 when it was done, 2 when the call was wrong."""
    arguments = _parser().parse_args()
    peers = [name for name in arguments.peers.split(",") if name]
    unknown = [name for name in peers if name not in PEERS]
    if unknown:
        print(f"unknown peer: `{unknown[0]}`\nhint: one of {', '.join(PEERS)}", file=sys.stderr)
        return 2
    model = arguments.model or _default_model()
    if model is None or not model.exists():
        print("no vocabulary found\nhint: name one with --model tokenizer.model", file=sys.stderr)
        return 2
    if not arguments.hard and REFERENCE not in peers:
        say(f"without {REFERENCE} ids are not compared, and every figure is marked")
    with scratch_folder() as scratch:
        files = Files(model, _unpacked(arguments.tokenizer_json, scratch), arguments.gpt2, scratch)
        settings = {
            "model": model.name,
            "rounds": arguments.rounds,
            "cold rounds": arguments.cold_rounds,
            "limit": f"{arguments.limit_mb:g} MB a corpus" if arguments.limit_mb else "none",
        }
        found = new_report(settings)
        if arguments.hard:
            hard.measure(found, peers, files, arguments.cold_rounds, arguments.cap)
        else:
            corpora = documents.gather(arguments.corpus, ROOT, arguments.limit_mb, arguments.text_key)
            threads = arguments.threads or sorted({1, available_cores()})
            comparison = Comparison(
                files,
                peers,
                found,
                rounds=arguments.rounds,
                cold_rounds=arguments.cold_rounds,
                cap=arguments.cap,
                lesser_jobs=not arguments.encode_only,
            )
            comparison.measure(corpora, threads)
    if arguments.output is None:
        print(report.markdown(found), end="")
    else:
        stem = "hard" if arguments.hard else "compare"
        for path in report.write(found, arguments.output, stem):
            say(f"written: {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benches.compare",
        description="Measure llamatok beside its peers: same documents, in turn, ids compared.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", type=Path, help="SentencePiece model (default: Llama 2's beside the repository)")
    add("--tokenizer-json", type=Path, help="ready tokenizer.json (.gz too) instead of converting the model")
    add("--gpt2", type=Path, help="GPT-2's ranks, a .tiktoken file (default: from an installed package)")
    add("--corpus", type=Path, nargs="+", default=[], help=".jsonl or text files, plain, .gz or .zst")
    add("--text-key", default="text", help="key of the text in .jsonl (default: %(default)s)")
    add("--limit-mb", type=float, help="take this many megabytes of each corpus")
    add("--peers", default=",".join(DEFAULT), help="comma-separated (default: %(default)s)")
    add("--threads", type=int, nargs="+", help="numbers of threads (default: 1 and all cores)")
    add("--rounds", type=int, default=5, help="warm rounds (default: %(default)s)")
    add("--cold-rounds", type=int, default=3, help="cold passes, a fresh process each (default: %(default)s)")
    add(
        "--cap",
        type=float,
        default=300,
        help="give up on a peer after so many seconds (default: %(default)s)",
    )
    add("--encode-only", action="store_true", help="leave out latency, count, decode and short strings")
    add("--hard", action="store_true", help="the hard texts instead of the corpora")
    add("--output", type=Path, help="folder for the page, JSON and plots (default: the page on stdout)")
    return parser


def _default_model() -> Path | None:
    path = ROOT.parent / "shared" / "models" / "llama2" / "tokenizer.model"
    return path if path.exists() else None


def _unpacked(path: Path | None, scratch: Path) -> Path | None:
    if path is None or path.suffix != ".gz":
        return path
    import gzip

    plain = scratch / "given.tokenizer.json"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    return plain


if __name__ == "__main__":
    sys.exit(main())
