"""Random programs for the model: flows and tasks as data, the source they are written as, and edits of them.

A program has four tasks, the i-th of which calls only those after it, one generator task, a subflow and the flow
`job(x)`. Every body is a list of steps. `source_of` writes a program as a script, in plain functions or coroutines;
`parts_of` says what TASK_SOURCE is documented to compare of a task: the function, and one by one the functions and
constants of the same project it refers to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

TASKS = 4
GENERATOR = TASKS  # index of the generator task
POLICIES = (
    "DEFAULT",
    "DEFAULT + TASK_SOURCE",
    'DEFAULT - "y"',
    "NONE",
    "INPUTS",
    'INPUTS - "y"',
    "INPUTS + TASK_SOURCE",
    "INPUTS + RUN_ID",
    "INPUTS + FLOW_PARAMETERS",
    "TASK_SOURCE",
    'INPUTS.configure(isolation_level="SERIALIZABLE")',
)


@dataclass
class Call:
    """One call; `x` None is the value before."""

    task: int
    x: int | None = 1
    y: int = 0
    form: int = 0
    catch: bool = False


@dataclass
class Group:
    """Calls made at once: "submit", "map" (of the first one's task) or "gather".

    Or two of which the second is given the first one's future, as its "argument" x or to "wait_for"; with " call" it is
    called, else submitted.
    """

    mode: str
    calls: list[Call]
    catch: bool = False


@dataclass
class Loop:
    """A loop over the generator task that breaks after `take` values and may call a task for each."""

    x: int = 1
    take: int = 9
    inner: Call | None = None


@dataclass
class Sub:
    """A call of the subflow."""

    x: int = 1
    catch: bool = False


CHAINS = ("argument", "argument call", "wait_for", "wait_for call")
Step = Any


@dataclass
class Task:
    """A task. Its body ends well in every (`fail` + 1)-th attempt made of a task run, and fails in the others."""

    name: str
    policy: str = "DEFAULT"
    retries: int = 0
    delay: int = 0
    persist: bool = True
    on_interrupt: str = "retry"
    expires: int | None = None
    fail: int = 0
    version: int = 0
    helper: int = 0
    constant: int = 0
    yields: int = 0
    body: list[Step] = field(default_factory=list)

    @property
    def components(self) -> frozenset[str]:
        return frozenset(self.policy.split(".")[0].split(" - ")[0].split(" + "))

    @property
    def checkpoint(self) -> bool:
        return "DEFAULT" in self.components

    @property
    def memo(self) -> bool:
        return not self.checkpoint and self.policy != "NONE"

    def counted(self, x: int, y: int) -> tuple[int, ...]:
        """The arguments that take part in what a call is."""
        return (x,) if self.policy.endswith('"y"') else (x, y)


@dataclass
class Program:
    colour: str
    tasks: list[Task]
    inner: list[Step] = field(default_factory=list)
    job: list[Step] = field(default_factory=list)
    flow_retries: int = 0

    def at_once(self, group: Group) -> bool:
        """Whether a group may run at once: which of two memos is computed first would be anybody's guess."""
        return not any(self.tasks[index].memo for call in group.calls for index in self.reached(call.task))

    def reached(self, index: int) -> set[int]:
        """A task and all that its body may call, at any depth."""
        found = {index}
        for called in calls_of(self.tasks[index].body):
            found |= self.reached(called)
        return found


def calls_of(steps: list[Step]) -> Iterator[int]:
    """The tasks that steps call."""
    for step in steps:
        if isinstance(step, Call):
            yield step.task
        elif isinstance(step, Group):
            yield from (call.task for call in step.calls)
        elif isinstance(step, Loop):
            yield GENERATOR
            if step.inner is not None:
                yield step.inner.task


def parts_of(program: Program, index: int) -> dict[str, Any]:
    """The documented components of a task's source, each with what its meaning depends on."""
    task = program.tasks[index]
    parts: dict[str, Any] = {
        f"job:{task.name}": function_of(program, index),
        f"job:help_{task.name}": task.helper,
        f"job:{task.name}.K_{task.name}": task.constant,
    }
    for called in calls_of(task.body):
        parts |= parts_of(program, called)
    return parts


def source_of(program: Program) -> str:
    """The program as a script."""
    lines = ["from model_kit import *", ""]
    for index in reversed(range(len(program.tasks))):
        task = program.tasks[index]
        options = [f"cache_policy={task.policy}", f"retries={task.retries}", f"on_interrupt={task.on_interrupt!r}"]
        options += [f"retry_delay_seconds={task.delay}"] if task.delay else []
        options += [f"cache_expiration={task.expires}"] if task.expires is not None else []
        options += ["persist_result=False"] if not task.persist else []
        lines += [f"K_{task.name} = {task.constant}", f"def help_{task.name}():", f"    return {task.helper}", ""]
        lines += [f"@task({', '.join(options)})", *function_of(program, index), ""]
    prefix = "async " if program.colour == "async" else ""
    for name, steps, options, given in (
        ("inner", program.inner, "", "kit.mix(out)"),
        ("job", program.job, f"(retries={program.flow_retries})", "out"),
    ):
        lines += [f"@flow{options}", f"{prefix}def {name}(x):", "    out, last = [], x"]
        lines += [*body_of(program, steps), f"    return {given}", ""]
    return "\n".join(lines)


def function_of(program: Program, index: int) -> list[str]:
    """The lines of one task's function."""
    task = program.tasks[index]
    prefix = "async " if program.colour == "async" else ""
    name, facts = task.name, f"{task.name!r}, {task.version}, help_{task.name}(), K_{task.name}, x, y"
    lines = [f"{prefix}def {name}(x, y=0):", f"    n, out, last = kit.begin({name!r}, x, y), [], x"]
    if index == GENERATOR:
        lines += [f"    for i in range({task.yields}):", "        kit.point()", f"        yield kit.mix({facts}, i)"]
        return [*lines, f"    kit.finish({name!r}, x, n, {task.fail})"]
    lines += body_of(program, task.body)
    return [*lines, f"    kit.finish({name!r}, x, n, {task.fail})", f"    return kit.mix({facts}, kit.epoch(), n, out)"]


def body_of(program: Program, steps: list[Step]) -> list[str]:
    """The lines of some steps."""
    lines: list[str] = []
    for step in steps:
        lines.append("    kit.point()")
        if isinstance(step, Loop):
            lines += _loop(program, step)
            continue
        if isinstance(step, Group) and program.at_once(step):
            lines += [f"    for got in {_group(program, step)}:", f"        last = kit.taken(got, {step.catch})"]
            lines.append("        out.append(last)")
            continue
        for made in step.calls if isinstance(step, Group) else [step]:
            lines += _guarded(_call(program, made), catch=step.catch)
    return lines


def _guarded(call: str, *, catch: bool) -> list[str]:
    if not catch:
        return [f"    last = {call}", "    out.append(last)"]
    return [
        "    try:",
        f"        last = {call}",
        "    except kit.Boom as error:",
        "        last = kit.mix(str(error))",
        "    out.append(last)",
    ]


def _call(program: Program, step: Call | Sub) -> str:
    awaited = "await " if program.colour == "async" else ""
    if isinstance(step, Sub):
        return f"{awaited}inner({step.x})"
    return f"{awaited}{program.tasks[step.task].name}({_arguments(step)})"


def _arguments(call: Call) -> str:
    x = "last" if call.x is None else str(call.x)
    if call.form == 1:
        return f"y={call.y}, x={x}"
    return x if call.form == 2 and call.y == 0 else f"{x}, {call.y}"


def _group(program: Program, step: Group) -> str:
    names = [program.tasks[call.task].name for call in step.calls]
    if step.mode == "map":
        given = ", ".join("last" if c.x is None else str(c.x) for c in step.calls)
        futures = f"{names[0]}.map([{given}], {[c.y for c in step.calls]})"
    elif step.mode == "gather" and program.colour == "async":
        made = ", ".join(f"{name}({_arguments(call)})" for name, call in zip(names, step.calls, strict=True))
        return f"await asyncio.gather({made}, return_exceptions=True)"
    elif step.mode in CHAINS:
        return _chain(program, step, *names)
    else:
        made = ", ".join(f"{name}.submit({_arguments(call)})" for name, call in zip(names, step.calls, strict=True))
        futures = f"[{made}]"
    return f"await kit.settled_async({futures})" if program.colour == "async" else f"kit.settled({futures})"


def _chain(program: Program, step: Group, before: str, after: str) -> str:
    first, second = step.calls
    future = f"{before}.submit({_arguments(first)})"
    given = f"{future}, {second.y}" if "argument" in step.mode else f"{_arguments(second)}, wait_for=[{future}]"
    if "call" not in step.mode:
        after += ".submit"
    if program.colour == "async":
        return f"await kit.settled_async([{after}({given})])"
    return f"kit.settled([{after}({given})])" if "call" not in step.mode else f"kit.called(lambda: {after}({given}))"


def _loop(program: Program, step: Loop) -> list[str]:
    asynchronous = program.colour == "async"
    lines = [
        f"    stream, took = {program.tasks[GENERATOR].name}({step.x}), 0",
        "    try:",
        f"        {'async ' if asynchronous else ''}for last in stream:",
        "            kit.point()",
        "            out.append(last)",
    ]
    if step.inner is not None:
        lines += [
            f"            last = {_call(program, step.inner)}",
            "            out.append(last)",
        ]
    return [
        *lines,
        "            took += 1",
        f"            if took == {step.take}:",
        "                break",
        "    finally:",
        f"        {'await stream.aclose()' if asynchronous else 'stream.close()'}",
    ]


# How programs are made, and edited.

small = st.integers(0, 2)


@st.composite
def calls(draw: Any, first: int = 0) -> Call:
    x = draw(st.one_of(st.integers(1, 3), st.none()))
    return Call(
        draw(st.integers(first, TASKS - 1)), x, draw(st.sampled_from((0, 0, 1))), draw(small), draw(st.booleans())
    )


@st.composite
def groups(draw: Any, first: int = 0) -> Group:
    mode = draw(st.sampled_from(("submit", "map", "gather", "chain", "chain")))
    if mode == "chain":
        before, after = draw(calls(first)), draw(calls(first))
        mode = draw(st.sampled_from(CHAINS))
        if "argument" in mode:
            after.x = None
        return Group(mode, [before, after], draw(st.booleans()))
    made = draw(st.lists(calls(first), min_size=1, max_size=3))
    if mode == "map":
        made = [Call(made[0].task, call.x, call.y) for call in made]
    return Group(mode, made, draw(st.booleans()))


@st.composite
def loops(draw: Any, first: int = 0) -> Loop:
    inner = draw(st.none() | calls(first)) if first < TASKS else None
    if inner is not None:
        inner.catch = False
    return Loop(draw(st.integers(1, 2)), draw(st.sampled_from((1, 2, 3, 9))), inner)


def steps(first: int = 0, *, flow: bool = False) -> st.SearchStrategy[Step]:
    """One step of a body that may call the tasks from `first` on."""
    kinds: list[st.SearchStrategy[Step]] = [loops(first)]
    if first < TASKS:
        kinds = [calls(first), calls(first), groups(first), *kinds]
    if flow:
        kinds.append(st.builds(Sub, st.integers(1, 2), st.booleans()))
    return st.one_of(kinds)


@st.composite
def tasks(draw: Any, index: int) -> Task:
    name = "abcdg"[index]
    body = [] if index == GENERATOR else draw(st.lists(steps(index + 1), max_size=2 if index < 2 else 1))
    made = Task(
        name, retries=draw(st.sampled_from((0, 0, 1, 2))), fail=draw(st.sampled_from((0, 0, 0, 1, 2, 3))), body=body
    )
    made.delay = draw(st.sampled_from((0, 0, 5)))
    if index == GENERATOR:
        made.yields = draw(st.integers(0, 3))
        made.policy = draw(st.sampled_from(("DEFAULT", "DEFAULT", "INPUTS", "INPUTS + RUN_ID")))
        made.expires = draw(st.sampled_from((None, 63))) if made.memo else None
        return made
    made.policy = draw(st.sampled_from(("DEFAULT", "DEFAULT", "DEFAULT + TASK_SOURCE", *POLICIES)))
    if made.policy == "DEFAULT":
        made.persist = draw(st.sampled_from((True, True, False)))
    if made.memo:
        made.expires = draw(st.sampled_from((None, 63)))
    made.on_interrupt = draw(st.sampled_from(("retry", "retry", "retry", "fail")))
    return made


@st.composite
def programs(draw: Any) -> Program:
    made = Program(draw(st.sampled_from(("sync", "async"))), [draw(tasks(index)) for index in range(TASKS + 1)])
    made.inner = draw(st.lists(steps(1), max_size=2))
    made.job = draw(st.lists(steps(flow=True), min_size=1, max_size=4))
    made.flow_retries = draw(st.sampled_from((0, 0, 0, 1)))
    return made
