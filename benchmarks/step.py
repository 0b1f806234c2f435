"""python -m benchmarks.step: whole training steps and the memory they take, tinygen beside PyTorch.

A step is forward, backward and Adam on one batch, with the noise that the model draws. The same source runs on both
sides (`networks`). Variants of torch: -fused also uses the fused Adam and freezes the discriminator in the generator's
update, as tinygen does; -compile adds torch.compile to that. Left out by default, since the same with -fused is
measured: nchw-tuned, channels_last-default. Each model starts new processes, so that peak memory is that model's.

`deviation` of a GAN: its generator's gradient comes after Adam's first step on the discriminator, which is lr times the
sign of a gradient. Signs of what cancels to 0 are rounding: torch's own two layouts differ by 2e-2 on dcgan64.
"""

from __future__ import annotations

from . import records as rec
from .cases import choose
from .conv import progress
from .lockstep import Contenders
from .networks import CONVOLUTIONAL, NO_COMPILE, STEPS
from .options import parse as parse_options
from .options import parser

VARIANTS = (
    "nchw-default",
    "nchw-default-fused",
    "nchw-tuned-fused",
    "channels_last-tuned-fused",
    "nchw-tuned-compile",
)


def main(argv: list[str] | None = None) -> list[rec.Record]:
    """Measures, prints, writes; the records."""
    p = parser("step", "Training steps beside PyTorch.", VARIANTS)
    p.set_defaults(seconds=10.0)
    options = parse_options(p, argv)
    options.from_shell = argv is None
    models = choose(list(STEPS), options.cases)
    records, notes = [], []
    for threads in options.threads:
        bandwidth = None
        for group in [models] if options.quick else [[m] for m in models]:
            variants = [v for v in options.variants if all(useful(v, model) for model in group)]
            with Contenders(options, threads, variants) as field:
                for model in group:
                    cell = measure(field, model)
                    bandwidth = bandwidth or field.bandwidth()  # after the memory was read: its arrays are large
                    records += [{**rec.made_at(options, field, bandwidth), **r} for r in cell]
                    progress(records[-len(cell) :])
                notes += field.notes
    for model, why in NO_COMPILE.items():
        if model in models and any("compile" in v for v in options.variants):
            notes.append(f"{model} is not measured with torch.compile: {why}")
    rec.finish(records, options, notes, extra=lambda mine: rec.summary(mine) + "\n\n" + memory_table(mine))
    return records


def useful(variant: str, model: str) -> bool:
    """Whether a variant of torch exists for this model and differs from the others."""
    if variant.startswith("channels_last") and model not in CONVOLUTIONAL:
        return False
    return not ("compile" in variant and model in NO_COMPILE)


def measure(field: Contenders, model: str) -> list[rec.Record]:
    """The records of one model, without what all records of a run share."""
    made = field.all("step", model=model, small=field.options.quick)["tinygen"]
    times, peak = field.measure("step")
    deviations = {name: field.deviation(name) for name in field.rivals}
    memory = field.memory()
    cell = rec.records_of(
        {},
        model,
        "step",
        times,
        peak,
        deviations,
        made["flops"],
        images=made["images"],
        parameters=made["parameters"],
        tinygen_peak_rss_mb=memory["tinygen"],
    )
    for r in cell:
        r["images_per_second"] = 1e3 * made["images"] / r["tinygen_ms"]
        r["torch_peak_rss_mb"] = memory.get(r["torch_variant"])
    return cell


def memory_table(records: list[rec.Record]) -> str:
    """Images per second and peak memory of the processes, the libraries themselves included."""
    names = list(dict.fromkeys(r["torch_variant"] for r in records if r["torch_variant"]))
    rows = [["case", "images/s", "peak MB: tinygen", *names]]
    for (case, _, _), cell in rec.cells(records).items():
        one = next(iter(cell.values()))
        theirs = [rec.number(cell[n]["torch_peak_rss_mb"]) if n in cell else "-" for n in names]
        rows.append([case, f"{one['images_per_second']:.0f}", rec.number(one["tinygen_peak_rss_mb"]), *theirs])
    return rec.columns(rows)


if __name__ == "__main__":
    main()
