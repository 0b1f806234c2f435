"""python -m benchmarks.overhead: what an op costs beside its arithmetic, on tensors of four elements, in microseconds.

    unrecorded      an op under no_grad                        aim: at most 1.5 us
    recorded        an op that leaves a node on the tape       aim: at most 4 us
    backward_node   one node of a chain of 100, backward       aim: at most 5 us

A sample is 100 ops in a row.
"""

from __future__ import annotations

from . import records as rec
from .cases import choose
from .conv import progress
from .libraries import CHAIN, OPS
from .lockstep import Contenders
from .options import parse as parse_options
from .options import parser

AIMS = {"unrecorded": 1.5, "recorded": 4.0, "backward_node": 5.0}


def main(argv: list[str] | None = None) -> list[rec.Record]:
    """Measures, prints, writes; the records. Times are per op."""
    options = parse_options(parser("overhead", "Cost of an op beside its arithmetic.", ("nchw-default",)), argv)
    options.from_shell = argv is None
    records, notes = [], []
    for threads in options.threads:
        with Contenders(options, threads, options.variants) as field:
            base = rec.made_at(options, field, None)
            for op in choose(list(OPS), options.cases):
                field.all("overhead", op=op)
                for what in AIMS:
                    times, peak = field.measure(what)
                    deviations = {name: field.deviation(name, what) for name in field.rivals}
                    cell = rec.records_of(base, op, what, times, peak, deviations, ops=CHAIN, aim_us=AIMS[what])
                    records += cell
                    progress(cell)
            notes += field.notes
    rec.finish(records, options, notes, unit="us", extra=aims)
    return records


def aims(records: list[rec.Record]) -> str:
    """The ops that miss their aim."""
    one = {key: next(iter(cell.values())) for key, cell in rec.cells(records).items()}
    missed = [
        f"{case} {what} {rec.number(1e3 * r['tinygen_ms'])} us"
        for (case, what, _), r in one.items()
        if 1e3 * r["tinygen_ms"] > r["aim_us"]
    ]
    told = ", ".join(f"{what} {aim} us" for what, aim in AIMS.items())
    return f"aims: {told}; missed: {', '.join(missed) or 'none'}"


if __name__ == "__main__":
    main()
