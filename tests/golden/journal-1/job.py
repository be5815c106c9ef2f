import os, signal, sys
from durable import flow, task
from durable.cache_policies import INPUTS


class Refused(Exception):
    pass


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
    if sum(rows) == 41 and not os.path.exists("mended"):
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
        if day == 3 and not os.path.exists("mended"):
            os.kill(os.getpid(), signal.SIGKILL)
    return total


@flow
def failing():
    return fetch(10), load([20, 21])


if __name__ == "__main__":
    if sys.argv[1] == "failing":
        print(failing())
    else:
        print(nightly(int(sys.argv[1])))
