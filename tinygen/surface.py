"""The base of Tensor: empty here, tensor.py attaches the methods; surface.pyi declares them for type checkers."""


class Surface:
    __slots__ = ()
