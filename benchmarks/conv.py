"""python -m benchmarks.conv: convolutions of all models, forward and both gradients, tinygen beside PyTorch.

    python -m benchmarks.conv                                    every layer, all cores
    python -m benchmarks.conv --cases 'dc64_*' --passes forward --threads 1,2
    python -m benchmarks.conv --shape 64,128,16,16,256,4,2,1     a layer of your own: N,C,H,W,K,k,stride,pad

,T after the numbers makes a layer transposed. Gradients are timed as backward calls them, without the tape.
"""

from __future__ import annotations

import sys
from dataclasses import astuple

from . import records as rec
from .cases import LAYERS, PASSES, QUICK, choose, parse
from .lockstep import VARIANTS, Contenders
from .options import parse as parse_options
from .options import parser


def main(argv: list[str] | None = None) -> list[rec.Record]:
    """Measures, prints, writes; the records."""
    p = parser("conv", "Convolutions: forward, input gradient and weight gradient beside PyTorch.", VARIANTS)
    p.add_argument(
        "--shape", action="append", metavar="N,C,H,W,K,k,stride,pad[,T]", help="a layer of your own; may be repeated"
    )
    p.add_argument("--passes", help="only these of " + ", ".join(PASSES))
    options = parse_options(p, argv)
    options.from_shell = argv is None
    layers = {layer.name: layer for layer in (QUICK if options.quick else LAYERS)}
    own = [parse(text) for text in options.shape or []]
    names = choose(list(layers), options.cases) if options.cases or not own else []
    chosen = [layers[name] for name in names] + own
    passes = choose(list(PASSES), options.passes, "pass")
    records, notes = [], []
    for threads in options.threads:
        with Contenders(options, threads, options.variants) as field:
            base = rec.made_at(options, field, field.bandwidth())
            for layer in chosen:
                field.all("conv", layer=astuple(layer), passes=passes)
                for what in passes:
                    times, peak = field.measure(what)
                    deviations = {name: field.deviation(name, what) for name in field.rivals}
                    cell = rec.records_of(
                        base, layer.name, what, times, peak, deviations, layer.flops, layer.bytes, shape=layer.text
                    )
                    records += cell
                    progress(cell)
            notes += field.notes
    rec.finish(records, options, notes)
    return records


def progress(cell: list[rec.Record]) -> None:
    """One line about a cell that is done."""
    one = cell[0]
    theirs = "  ".join(f"{r['torch_variant']} {rec.number(r['torch_ms'])}" for r in cell if r["torch_variant"])
    print(
        f"  {one['threads']}T {one['case']} {one['pass']}: tinygen {rec.number(one['tinygen_ms'])} ms  {theirs}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
