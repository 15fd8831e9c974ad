"""Everything that can go wrong, as one small tree.  Each error is a sentence for a person and a code for a program.

LimnerError
├── UsageError          the command line asks for something that there is not
├── WorkflowError       a file that is no workflow
│   └── InvalidGraph    a workflow that cannot run: carries every problem it has
├── ModelMissing        a model that is named and not there
├── ModelFileError      a model file that is damaged, unsafe or of another kind
├── ImageFileError      a picture that cannot be read
├── StorageError        a file that cannot be written
├── DeviceError         a device or dtype that this machine does not have
├── OutOfMemory         a network or a batch that does not fit, with what holds the memory
├── BadReturn           a node that returned something else than it declares
├── TimeLimit           a run that took longer than it was given
├── Busy                another server has these files
├── QueueUnreadable     a queue whose file is damaged, or of a later version
├── NoSuchJob           a job that is named and not there
├── Conflict            a job that is not in a state for what is asked
├── Gone                events that are no longer kept
├── WorkerLost          a worker that has ended, or was ended, with its jobs unfinished
└── Interrupted         the user has stopped the run
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .graph import Problem


class LimnerError(Exception):
    """Something went wrong that a person can act on."""

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1


class UsageError(LimnerError):
    """The command line asks for something that there is not."""

    code = "usage"
    exit_code = 2


class WorkflowError(LimnerError):
    """A file that is no workflow."""

    code = "bad_workflow"
    exit_code = 3


class InvalidGraph(WorkflowError):
    """A workflow that cannot run."""

    code = "invalid_graph"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class _OfAFile(LimnerError):
    """A file that cannot be used: its path, and the reason."""

    def __init__(self, path: object, reason: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"{path}: {reason}")


class ModelMissing(LimnerError):
    """A model that is named and not there."""

    code = "model_missing"
    exit_code = 3


class ModelFileError(_OfAFile):
    """A model file that is damaged, unsafe or of another kind."""

    code = "bad_model_file"


class ImageFileError(_OfAFile):
    """A picture that cannot be read."""

    code = "bad_image_file"


class StorageError(LimnerError):
    """A file that cannot be written."""

    code = "cannot_write"

    def __init__(self, path: object, reason: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"cannot write {path}: {reason}")


class DeviceError(LimnerError):
    """A device or dtype that this machine does not have."""

    code = "no_device"
    exit_code = 2


class OutOfMemory(LimnerError):
    """A network or a batch that does not fit, with what holds the memory."""

    code = "out_of_memory"
    exit_code = 5


class BadReturn(LimnerError):
    """A node that returned something else than it declares."""

    code = "bad_return"


class TimeLimit(LimnerError):
    """A run that took longer than it was given."""

    code = "timeout"
    exit_code = 124


class Busy(LimnerError):
    """Another server has these files."""

    code = "busy"
    exit_code = 2


class QueueUnreadable(_OfAFile):
    """A queue whose file is damaged, or of a later version.  The file is left as it is."""

    code = "bad_queue"


class NoSuchJob(LimnerError):
    """A job that is named and not there."""

    code = "no_such_job"


class Conflict(LimnerError):
    """A job that is not in a state for what is asked."""

    code = "conflict"


class Gone(LimnerError):
    """Events that are no longer kept: who asks for them must look at the jobs instead."""

    code = "gone"


class WorkerLost(LimnerError):
    """A worker that has ended, or was ended, with its jobs unfinished."""

    code = "worker_lost"


class Interrupted(LimnerError):
    """The user has stopped the run."""

    code = "interrupted"
    exit_code = 130


def kind(error: BaseException) -> type[LimnerError]:
    """The kind of error of ours that any exception is, or comes to."""
    if isinstance(error, LimnerError):
        return type(error)
    # torch's error for devices is known by its name, so that torch is not loaded for this; the CPU's has none.
    no_room = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return OutOfMemory if no_room or "DefaultCPUAllocator" in words(error) else LimnerError


def sentence(error: BaseException) -> str:
    """What went wrong, for a person.  What a node raised is named by its class, unless it is a sentence already."""
    text = words(error)
    if isinstance(error, Interrupted):
        return text or "stopped"
    if isinstance(error, LimnerError | ValueError) and text:
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def words(error: BaseException) -> str:
    """What an exception says; empty where saying it fails in its turn, in whatever way."""
    try:
        return str(error)
    except BaseException:
        return ""
