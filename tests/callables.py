"""Functions, methods and callable objects of a few kinds, for the tests of what may be decorated."""

import dataclasses

from durable import task


@dataclasses.dataclass
class Point:
    x: int

    def __call__(self, n):
        return self.x * n

    def times(self, n):
        return self.x * n


def multiply(x, n=1, *, plus=0):
    return x * n + plus


class Decorated(Point):
    @task
    def decorated(self, n):
        return self.x * n


class Methods:
    """Both orders, so that the decorators' own binding is tested."""

    factor = 3

    @classmethod
    @task
    def outer(cls, n):
        return (cls.__name__, n)

    @task
    @classmethod
    def inner(cls, n):
        return (cls.__name__, n)

    @task
    @staticmethod
    def static(n):
        return n

    @staticmethod
    @task(retries=1)
    def outer_static(n):
        return n

    @property
    @task
    def size(self):
        return self.factor

    @classmethod
    @task
    async def outer_async(cls, n):
        return (cls.__name__, n)

    @task
    @classmethod
    async def inner_async(cls, n):
        return (cls.__name__, n)


class Others(Methods):
    pass
