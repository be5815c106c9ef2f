"""What `durable` exports, imported together when the first of it is asked for: see `durable.__getattr__`.

Together, so that hooks for a fork and the exit are registered in one order, whichever name a program begins with. The
list is also in ``durable/__init__.py``, under ``TYPE_CHECKING``, with what is imported by itself; a test compares them.
"""

from durable.annotations import allow_failure, quote, unmapped
from durable.codec import register
from durable.errors import (
    CancelledRun,
    CodecError,
    ConcurrencyTimeoutError,
    ConfigurationError,
    CorruptPayload,
    DurableError,
    FlowRunCancelled,
    FlowRunInProgress,
    FlowRunTimeoutError,
    GeneratorDiverged,
    InvalidTransition,
    JournalBusy,
    JournalError,
    JournalFailed,
    JournalNotFound,
    JournalNotWritable,
    MappingError,
    MissingContextError,
    NewerJournal,
    NotAJournal,
    NothingToResume,
    NotSerializable,
    ParameterBindError,
    ParameterTypeError,
    RunAbandoned,
    RunFailed,
    SubmittedTaskFailed,
    TaskFailed,
    TaskInterrupted,
    TaskRunTimeoutError,
    TerminationSignal,
    UnfinishedRun,
    Unhashable,
    UnresolvedClass,
    UnsupportedFilesystem,
    WorkerDied,
)
from durable.flows import Flow, flow
from durable.journal import close_journals
from durable.output import get_run_logger
from durable.settings import configure, temporary_settings
from durable.states import State, StateType
from durable.tagging import tags
from durable.tasks import Task, task
