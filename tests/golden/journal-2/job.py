import dataclasses, datetime, decimal, os, signal, sys
from durable import allow_failure, flow, tags, task
from durable.cache_policies import DEFAULT, INPUTS, NONE, TASK_SOURCE
from durable.transactions import transaction


class Refused(Exception):
    pass


@dataclasses.dataclass
class Row:
    day: int
    facts: tuple


def mended():
    return os.path.exists("mended")


def die():
    if not mended():
        os.kill(os.getpid(), signal.SIGKILL)


@task
def fetch(day):
    print("fetch", day, flush=True)
    return [day, day + 1]


@task(cache_policy=INPUTS)
def price(item):
    print("price", item, flush=True)
    return item * 100


@task(retries=1)
def load(rows):
    print("load", rows, flush=True)
    if sum(rows) == 41 and not mended():
        raise Refused("not today")
    return len(rows)


@flow
def part(day):
    return load(fetch(day))


@flow
def nightly(days=4):
    total = 0
    for day in range(days):
        total += part(day) if day < 2 else load(fetch(day))
        total += price(day)
        if day == 3:
            die()
    return total


@flow
def failing():
    return fetch(10), load([20, 21])


# What format 2 added.


@task(task_run_name="reading {count}")
def read(count):
    print("read", count, flush=True)
    for number in range(count):
        yield Row(number, (decimal.Decimal(number), datetime.date(2026, 11, 25)))
    return count


@flow
def streaming():
    seen = []
    for value in lost():
        seen.append(type(value).__name__)
    for row in read(5):
        seen.append(row.day)
        if row.day == 2:
            die()
    return seen


@task
def lost():
    print("lost", flush=True)
    yield object()


def undo(name):
    def hook(txn):
        print("undo", name, flush=True)
        if name == "first":
            die()

    return hook


@task(on_rollback=[undo("first")])
def first():
    print("first", flush=True)
    return 1


@task(on_rollback=[undo("second")])
def second():
    print("second", flush=True)
    return 2


@flow
def transacting():
    with transaction("invoice") as invoice:
        if not invoice.is_committed():
            invoice.stage({"paid": Row(1, ())})
    with transaction():
        done = first() + second()
        if not mended():
            raise Refused("rolled back")
    return done, invoice.read()


@task(version="2", tags=["io"], result_serializer="pickle")
def pickled(word):
    print("pickled", word, flush=True)
    return word.upper()


@task(cache_policy=DEFAULT + TASK_SOURCE, record_inputs=False)
def hidden(word):
    print("hidden", word, flush=True)
    return len(word)


@task(cache_policy=NONE)
def again(word, upstream=None):
    print("again", word, flush=True)
    return word


@task(persist_result=False, retries=1, retry_delay_seconds=0.001)
def flaky(attempt=[]):
    attempt.append(1)
    if len(attempt) < 2:
        raise Refused("once")
    print("flaky", flush=True)


@task(on_interrupt="fail")
def pay():
    print("pay", flush=True)
    die()
    return "paid"


@flow(version="3", flow_run_name="many kinds")
def kinds():
    with tags("night"):
        one = pickled.submit("one")
        two = hidden.submit(one)
        broken = load.submit([20, 21])
        after = again.submit("after", allow_failure(broken))
        never = again.submit("never", broken, return_state=True)
    flaky()
    price(77)
    found = one.result(), two.result(), after.result(), never.name
    broken.wait()
    return found, pay()


@flow
def keyed(key):
    return fetch(30)


if __name__ == "__main__":
    command = sys.argv[1]
    if command == "keyed":
        print(keyed.with_options(idempotency_key="monday")("monday"))
    elif command in ("failing", "streaming", "transacting", "kinds"):
        print(globals()[command]())
    else:
        print(nightly(int(command)))
