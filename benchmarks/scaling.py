"""python -m benchmarks.scaling: does time grow with the work, and with nothing else?

Two layers, one of them transposed, over 16 to 512 images and over 16x16 to 128x128 pixels. `growth` is time per
doubling of the work, divided by two: 1.00 is linear. The aim is at most 1.15, 15 % more than linear, for each doubling.
"""

from __future__ import annotations

import math
from dataclasses import astuple, replace

from . import records as rec
from .cases import PASSES, Layer, choose
from .conv import progress
from .lockstep import Contenders
from .options import parse as parse_options
from .options import parser

BATCHES, SIDES = (16, 32, 64, 128, 256, 512), (16, 32, 64, 128)
FAMILIES = {
    "conv": Layer("conv", 16, 32, 28, 28, 64, 3, 1, 1),
    "transposed": Layer("transposed", 16, 64, 14, 14, 32, 4, 2, 1, True),
}
QUICK_FAMILIES = {
    "conv": Layer("conv", 2, 3, 8, 8, 4, 3, 1, 1),
    "transposed": Layer("transposed", 2, 4, 4, 4, 3, 4, 2, 1, True),
}
VARIANTS = ("nchw-default", "channels_last-tuned")
LINEAR = 1.15  # the aim


def series(quick: bool) -> dict[str, list[tuple[int, Layer]]]:
    """{name: [(images or side, layer), ...]}, for example conv_batch and conv_pixels."""
    found = {}
    for name, layer in (QUICK_FAMILIES if quick else FAMILIES).items():
        batches, sides = ((2, 4), (4, 8)) if quick else (BATCHES, SIDES)
        found[f"{name}_batch"] = [(n, replace(layer, name=f"{name}_batch_{n}", n=n)) for n in batches]
        found[f"{name}_pixels"] = [(s, replace(layer, name=f"{name}_pixels_{s}", h=s, w=s)) for s in sides]
    return found


def main(argv: list[str] | None = None) -> list[rec.Record]:
    """Measures, prints, writes; the records."""
    p = parser("scaling", "Growth of time with the batch and with the pixels.", VARIANTS)
    p.set_defaults(seconds=2.0)
    options = parse_options(p, argv)
    options.from_shell = argv is None
    every = series(options.quick)
    records, notes = [], []
    for threads in options.threads:
        with Contenders(options, threads, options.variants) as field:
            base = rec.made_at(options, field, field.bandwidth())
            for name in choose(list(every), options.cases):
                before: dict[str, rec.Record] = {}
                for size, layer in every[name]:
                    field.all("conv", layer=astuple(layer), passes=PASSES)
                    for what in PASSES:
                        times, peak = field.measure(what)
                        deviations = {rival: field.deviation(rival, what) for rival in field.rivals}
                        cell = rec.records_of(
                            base,
                            layer.name,
                            what,
                            times,
                            peak,
                            deviations,
                            layer.flops,
                            layer.bytes,
                            shape=layer.text,
                            series=name,
                            size=size,
                        )
                        for r in cell:
                            r["growth"] = growth(before.get(what), r)
                        before[what] = cell[0]
                        records += cell
                        progress(cell)
            notes += field.notes
    rec.finish(records, options, notes, extra=growths)
    return records


def growth(before: rec.Record | None, after: rec.Record) -> float | None:
    """Time per doubling of the work between two sizes, divided by two; None for the first size."""
    if before is None:
        return None
    doublings = math.log2(after["mflop"] / before["mflop"])
    return (after["tinygen_ms"] / before["tinygen_ms"]) ** (1 / doublings) / 2


def growths(records: list[rec.Record]) -> str:
    """Growth for each doubling, by series and pass; how many doublings meet the aim, and which do not."""
    one = rec.first_of_each(records)
    parts = [f"growth of tinygen's time per doubling of the work (1.00: linear; +: above the aim of {LINEAR})"]
    for name in dict.fromkeys(r["series"] for r in one):
        mine = [r for r in one if r["series"] == name]
        sizes = list(dict.fromkeys(r["size"] for r in mine))
        rows = [[name, *(f"to {size}" for size in sizes[1:])]]
        for what in dict.fromkeys(r["pass"] for r in mine):
            values = [r["growth"] for r in mine if r["pass"] == what][1:]
            rows.append([what, *(f"{v:.2f}{'+' if v > LINEAR else ''}" for v in values)])
        parts.append(rec.columns(rows))
    known = [r for r in one if r["growth"]]
    missed = [f"{r['series']} {r['pass']} to {r['size']}: {r['growth']:.2f}" for r in known if r["growth"] > LINEAR]
    verdict = f"at most {LINEAR} per doubling: {len(known) - len(missed)} of {len(known)}"
    return "\n\n".join(parts) + f"\n\n{verdict}{'; missed: ' if missed else ''}{', '.join(missed)}"


if __name__ == "__main__":
    main()
