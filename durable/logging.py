"""Logging from a body, under the module name Prefect 3 gives it."""

from durable.output import get_run_logger

__all__ = ["get_run_logger"]
