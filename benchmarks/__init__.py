"""tinygen beside PyTorch: same shapes, same numbers, same machine, same minute. Run in a clone (`pip install -e .`).

    python -m benchmarks.conv       convolutions: forward, input gradient, weight gradient
    python -m benchmarks.step       whole training steps, and the memory they take
    python -m benchmarks.recipes    whole trainings of recipes: quality, time, memory
    python -m benchmarks.overhead   what an op costs beside its arithmetic
    python -m benchmarks.scaling    growth with the batch and with the pixels
    python -m benchmarks.report     tables and pictures of the results that were saved

How the comparison is made fair (`lockstep`): each contender is a process of its own, since malloc, BLAS and instruction
set are fixed when a process starts; the processes take turns, a sample each, so that a clock that drifts drifts for
all; only one runs at a time; results are compared before times are. FMA peak and memory bandwidth are measured in the
same run.
"""
