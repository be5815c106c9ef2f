"""Generator tasks whose process is killed: no value is lost, and none is given to a consumer twice."""

from scripts import in_colour

JOB = """
    @task
    def step(x):
        ran("step", x)
        return x

    @task
    DEF numbers(n):
        ran("begin")
        for i in range(n):
            ran("yield", i)
            if i == 3:
                die("inside")
            yield {"number": i}

    @flow
    DEF job():
        got = []
        ASYNC_for value in numbers(6):
            got.append(step(value["number"]))
            if len(got) == 4:
                die("consumer")
        return got

    print(RUN(job()))
"""


def job_in(colour):
    return in_colour(JOB, colour).replace("ASYNC_for", "async for" if colour == "async" else "for")


def test_killed_in_the_body_it_goes_on_after_what_was_delivered(script, colour):
    script.write(job_in(colour))
    script.killed("inside")
    assert script.ran() == ["begin", *[f"{word} {i}" for i in range(3) for word in ("yield", "step")], "yield 3"]
    assert script.ok() == "[0, 1, 2, 3, 4, 5]"
    # Served from the record: 0 to 2. Then it starts again, and is advanced past them.
    assert [line for line in script.ran() if line.startswith("step")] == ["step 3", "step 4", "step 5"]
    assert script.tasks("numbers") == [["Running", "Crashed", "Running", "Completed"]]
    assert script.query("SELECT count(*) FROM yields") == [(6,)]


def test_killed_in_the_consumer_no_value_is_lost(script, colour):
    script.write(job_in(colour))
    script.killed("consumer")
    script.ran()
    assert script.query("SELECT count(*) FROM yields") == [(4,)]
    assert script.ok() == "[0, 1, 2, 3, 4, 5]"
    assert [line for line in script.ran() if line.startswith("step")] == ["step 4", "step 5"]


def test_an_exhausted_one_is_not_started_by_a_resume(script, colour):
    script.write(
        in_colour(
            """
    @task
    DEF numbers(n):
        ran("begin")
        for i in range(n):
            yield i

    @flow
    DEF job():
        got = [value ASYNC_for value in numbers(3)]
        die("after")
        return got

    print(RUN(job()))
    """,
            colour,
        ).replace("ASYNC_for", "async for" if colour == "async" else "for")
    )
    script.killed("after")
    assert script.ok() == "[0, 1, 2]"
    assert script.all_ran() == ["begin"]


def test_a_resumed_one_that_yields_something_else_is_told(script):
    script.write(job_in("sync"))
    script.killed("inside")
    script.write(job_in("sync").replace('{"number": i}', '{"number": i + 1}'))
    ended = script.run()
    assert ended.code == 1
    assert "GeneratorDiverged" in ended.err
    assert "where value 1 is on record" in ended.err


def test_what_was_sent_is_sent_again(script):
    script.write(
        """
    @task
    def adder():
        total = 0
        while True:
            got = yield total
            ran("got", got)
            total += got
            if total == 6:
                die("six")

    @flow
    def job():
        generator = adder()
        next(generator)
        return [generator.send(i) for i in (1, 2, 3, 4)]

    print(job())
    """
    )
    script.killed("six")
    assert script.ok() == "[1, 3, 6, 10]"
    assert script.all_ran() == ["got 1", "got 2", "got 3", "got 1", "got 2", "got 3", "got 4"]


def test_a_set_is_the_same_value_under_another_hash_seed(script):
    script.write(
        """
    @task
    def sets():
        yield {"a", "b", "c", "d", "e"}
        yield {"f"}
        die("inside")
        yield {"g"}

    @flow
    def job():
        return [sorted(value) for value in sets()]

    print(job())
    """
    )
    script.killed("inside", PYTHONHASHSEED="1")
    assert script.ok(PYTHONHASHSEED="2") == "[['a', 'b', 'c', 'd', 'e'], ['f'], ['g']]"


def test_an_interpreter_that_exits_with_a_suspended_one_says_nothing(script):
    script.write(
        """
    @task
    def numbers():
        yield 1
        yield 2

    generator = numbers()
    print(next(generator))
    keep = {"generator": generator}
    keep["self"] = keep
    """
    )
    ended = script.run()
    assert (ended.code, ended.out, ended.err) == (0, "1\n", "")
