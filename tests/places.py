"""A user and a project with their settings, and a value for each setting that is not its default."""

from contextlib import nullcontext

from durable import configure, settings, temporary_settings
from durable.settings import SETTINGS
from durable.settings.userfile import toml

# Setting -> a value that is not the default, and how the environment says it.
OTHER = {
    "journal": ("/elsewhere/other.db", "/elsewhere/other.db"),
    "durability": ("process", "process"),
    "resume": ("never", " Never "),
    "on_interrupt": ("retry", "retry"),
    "logging_level": ("DEBUG", "debug"),
    "log_prints": (True, "1"),
    "task_default_retries": (3, "3"),
    "task_default_retry_delay_seconds": ([1, 2.5], "[1, 2.5]"),
    "flow_default_retries": (4, " 4 "),
    "flow_default_retry_delay_seconds": (0.5, "0.5"),
    "task_refresh_cache": (True, "true"),
    "task_disable_caching": (True, "YES"),
    "progress": (False, "off"),
    "thread_pool_max_workers": (7, "7"),
    "concurrency_limits": (
        {"github-api": 5, 'a b/ü"': {"limit": 30, "slot_decay_per_second": 0.5}},
        '{"github-api": 5, "a b/ü\\"": {"limit": 30, "slot_decay_per_second": 0.5}}',
    ),
}


class Place:
    """A user and a project of a test's own: their files, and the working directory, two folders into the project."""

    def __init__(self, folder, monkeypatch):
        self.project, self.monkeypatch = folder / "project", monkeypatch
        self.pyproject = self.project / "pyproject.toml"
        self.user = folder / "config" / "durable" / "config.toml"
        self.below = self.project / "src" / "deep"
        self.below.mkdir(parents=True)
        self.user.parent.mkdir(parents=True)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        monkeypatch.chdir(self.below)
        monkeypatch.setattr(settings, "_configured", {})

    def leave(self):
        self.monkeypatch.undo()
        settings.refresh()

    def write(self, path, text):
        path.write_text(text, encoding="utf-8")
        settings.refresh()

    def say(self, source, name, value):
        """Set one setting in one source; gives what is to be entered for it to count."""
        match source:
            case "temporary":
                return temporary_settings({name: value})
            case "configured":
                configure(**{name: value})
            case "environment":
                text = OTHER[name][1] if value == OTHER[name][0] else str(value)
                self.monkeypatch.setenv(SETTINGS[name].variables[0], text)
            case "pyproject":
                self.write(self.pyproject, f"[project]\nname = 'x'\n[tool.durable]\n{name} = {toml(value)}\n")
            case "user file":
                self.write(self.user, f"{name} = {toml(value)}\n")
        return nullcontext()
