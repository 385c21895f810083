"""What sizes and times of streams tell of their topics; writes its section of docs/threat-model.md.

python tests/leak              all of it, a minute or two
python tests/leak --answers 50 of each topic; prints, and writes nothing
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from leak_report import ANSWERS, SEED, measured, table, written

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/threat-model.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=ANSWERS, help="of each topic")
    parser.add_argument("--seed", type=int, default=SEED)
    chosen = parser.parse_args()
    began_s = time.monotonic()
    rows = measured(chosen.answers, chosen.seed)
    text = table(rows, chosen.answers, chosen.seed)
    sys.stdout.write(f"{text}\n{time.monotonic() - began_s:.0f} s\n")
    if (chosen.answers, chosen.seed) == (ANSWERS, SEED):
        DOCUMENT.write_text(written(DOCUMENT.read_text(), text))


if __name__ == "__main__":
    main()
