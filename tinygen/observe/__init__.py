"""What happened, op by op: the graph of a loss, the first NaN, times, flops and memory.

    tg.explain(loss)                            # the graph: shapes, what is kept, bytes, each kernel's file:line
    with tg.detect_anomaly(): ...               # raises at the op that makes the first NaN, forward or backward
    with observe.profile() as p: ...            # print(p): calls, time and GFLOP/s of every op and kernel
    with observe.count_flops() as f: ...        # f.total, print(f)
    with observe.memory_timeline() as m: ...    # m.peak bytes, and the op that reached it

The tape tells each observer in `tape.observers` before and after every op and every fused VJP. An observer of your own
is a subclass of `Observer`, attached for the length of a block. Only sums of gradients happen unseen.
"""

from .anomaly import AnomalyError, detect_anomaly
from .flops import FlopCount, count_flops
from .graph import explain
from .memory import MemoryTimeline, memory_timeline
from .observer import Observer, attached, observing
from .times import Profile, profile

__all__ = [
    "AnomalyError", "FlopCount", "MemoryTimeline", "Observer", "Profile", "attached", "count_flops", "detect_anomaly",
    "explain", "memory_timeline", "observing", "profile",
]  # fmt: skip
