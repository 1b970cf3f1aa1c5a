"""`python -m benchmarks`: the command line. Each workload's results are a file, written when it has ended."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.model import Record
from benchmarks.processes import Failed
from benchmarks.report import write_page
from benchmarks.scale import FULL, QUICK
from benchmarks.suite import run
from benchmarks.workloads import WORKLOADS

RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).parents[1] / "docs/benchmarks.md"


OWN_NAMESPACE = "GRIDFS_BENCH_NAMESPACE"


def own_namespace() -> None:
    """Starts this program again where its mounts are nobody else's.

    Whoever makes a mount namespace meanwhile would hold them and keep their daemons alive; and however this program
    ends, its mounts end with it.
    """
    os.environ[OWN_NAMESPACE] = "1"
    again = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
    os.execvp("unshare", ["unshare", "--mount", "--propagation=private", *again])


def main() -> int:
    letters = [workload.letter for workload in WORKLOADS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="gridfs beside what people use instead.")
    parser.add_argument("--only", default="", help=f"letters of workloads, of {','.join(letters)}")
    parser.add_argument("--rounds", type=int, help="of everything (default: 3 of what is short, 2 of the rest)")
    parser.add_argument("--quick", action="store_true", help="little data, under a minute; its figures mean nothing")
    parser.add_argument(
        "--dir", type=Path, default=Path("/var/tmp/gridfs-bench"), help="the rivals' environment, and the data of a run"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="directory for a file of results of each workload (default: that of docs/benchmarks.md)",
    )
    parser.add_argument("--more", action="store_true", help="add rounds to the results that are there")
    parser.add_argument("--page", action="store_true", help="only write docs/benchmarks.md from benchmarks/results/")
    chosen = parser.parse_args()
    wanted = [letter for letter in chosen.only.split(",") if letter]
    if unknown := set(wanted) - set(letters):
        parser.error(f"no workload {', '.join(sorted(unknown))}")
    if not chosen.page:
        if os.geteuid() == 0 and OWN_NAMESPACE not in os.environ:
            own_namespace()
        out = chosen.out or (None if chosen.quick else RESULTS)

        def save(letter: str, record: Record) -> None:
            if out is not None:
                out.mkdir(parents=True, exist_ok=True)
                file = out / f"{letter}.json"
                if chosen.more and file.exists():
                    record = Record.from_json(file.read_text(encoding="utf-8")).with_rounds_of(record)
                file.write_text(record.to_json() + "\n", encoding="utf-8")

        try:
            scale = QUICK if chosen.quick else FULL
            if chosen.rounds is not None:
                scale = replace(scale, rounds=chosen.rounds, slow_rounds=chosen.rounds)
            figures, failures = run(scale, wanted, chosen.dir, with_rivals=not chosen.quick, save=save)
        except Failed as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nbenchmarks: ended; only the results of finished workloads are left", file=sys.stderr)
            return 130
        print(f"\n{figures} figures, {failures} failures{f' in {out}' if out else ''}")
        if chosen.quick or chosen.out:
            return 0
    write_page(Record.merged(sorted(RESULTS.glob("*.json"))), PAGE)
    print(f"page: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
