"""What a user can mend: the base class of every error that the command line answers in one line.

The library raises subclasses (a wrong setting, a missing file, a device that is not there); anything else that escapes
is a fault of tinygen, and shows its traceback.
"""


class UserError(Exception):
    """Wrong input. The message names what was expected, what came, and the remedy."""


class SettingError(UserError, ValueError):
    """An argument, option or environment variable with a value that does not fit."""


class DeviceError(UserError, RuntimeError):
    """A device that is not there, or cannot be used."""


def named(op: str, error: ValueError | OverflowError) -> Exception:
    """NumPy's error in the words of the op that met it, which NumPy does not know."""
    why = str(error).strip().removeprefix(f"{op}: ")
    if isinstance(error, OverflowError):  # "Python integer 300 out of bounds for uint8"
        return OverflowError(f"{op}: {why}; choose a number within its range, or widen the tensor with .long()")
    return ValueError(f"{op}: {why}")
