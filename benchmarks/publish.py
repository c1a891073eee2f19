"""Puts the tables that benchmarks/all.sh wrote into the pages of docs/.

    python benchmarks/publish.py runs/benchmarks

NAME.md replaces what stands between `<!-- from NAME.py -->` and the next `<!-- end -->`; a benchmark without results
keeps what it has.
"""

import argparse
import re
from pathlib import Path

PAGES = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"(<!-- from (\w+)\.py -->\n).*?(<!-- end -->)", re.DOTALL)


def publish(page: str, results: Path) -> str:
    """The page with the tables in `results`."""

    def renew(block: re.Match[str]) -> str:
        path = results / f"{block[2]}.md"
        return f"{block[1]}\n{path.read_text(encoding='utf-8').strip()}\n\n{block[3]}" if path.exists() else block[0]

    return BLOCK.sub(renew, page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    arguments = parser.parse_args()
    for page in PAGES.glob("*.md"):
        page.write_text(publish(page.read_text(encoding="utf-8"), arguments.results), encoding="utf-8")


if __name__ == "__main__":
    main()
