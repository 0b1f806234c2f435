"""Differentiable operations by family, under torch's names. Each is a forward on arrays and one VJP per argument."""
