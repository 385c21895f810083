"""Write tests/vectors anew: ``python scripts/gen_vectors.py [--out FOLDER]``.

An independent second implementation of docs/spec (see ``vectors/``). Running it twice gives the
same bytes; ``make vectors`` fails if anything changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vectors import (
    answers,
    binding,
    documents,
    exchanges,
    http,
    kms,
    merkle,
    receipts,
    records,
    releases,
    requests,
    settings,
    small,
)
from vectors.case import Case, write_folder

DEFAULT_OUT = Path(__file__).resolve().parent.parent / "tests" / "vectors"


def folders() -> dict[str, list[Case]]:
    """Every folder with its cases."""
    return {
        "answer": answers.cases(),
        "binding": binding.bindings(),
        "canonical": small.canonical(),
        "document": documents.cases(),
        "exchange": exchanges.exchanges(),
        "http": http.cases(),
        "key_id": small.key_ids(),
        "kms_policy": kms.cases(),
        "manifest": binding.manifests(),
        "merkle": merkle.cases(),
        "outer": small.outer(),
        "padding": small.padding(),
        "plaintext": records.plaintexts(),
        "receipt": receipts.cases(),
        "record": records.records(),
        "releases": releases.cases(),
        "request": requests.cases(),
        "settings": settings.cases(),
        "usage": exchanges.usage(),
    }


def main() -> None:
    """Write every folder and say what was written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder to write into")
    out: Path = parser.parse_args().out
    total = 0
    for name, cases in folders().items():
        size = write_folder(out, name, cases)
        total += size
        print(f"{name:10} {len(cases):4} cases {size:9,} bytes")
    print(f"{'all':10} {total:26,} bytes")


if __name__ == "__main__":
    main()
