"""Write the case files: `python conformance/generate.py [FOLDER]`. The same files each time, to the byte.

Every answer is computed by formulas.py, in Fractions. catalogue.py says which cases there are, and what each of them catches.
"""

import sys
from pathlib import Path

from catalogue import ALL
from making import Cases, written


def main(folder):
    cases = Cases()
    for add in ALL:
        add(cases)
    size = 0
    for name, found in cases.files.items():
        content = ('{"format": 1, "cases": [\n' + ",\n".join(map(written, found)) + "\n]}\n").encode()
        (folder / f"{name}.json").write_bytes(content)
        size += len(content)
    print(f"{sum(map(len, cases.files.values()))} cases, {size:,} bytes, in {len(cases.files)} files")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "cases")
