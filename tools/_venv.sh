# shellcheck shell=bash
# Shared by tools/test, tools/demo and .ci/run: which Python to use, and an environment for it. Sourced, not run.

# Somebody's own settings must not leak into the environments made here.
unset PYTHONHOME PYTHONPATH

# Does "$1" start (a pyenv shim may exist and fail), and is it a Python that durable supports?
usable_python() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

# Print the interpreter to use: $PYTHON if set, else python3, else the newest python3.X that starts.
find_python() {
  local candidate
  if [[ -n "${PYTHON:-}" ]]; then
    if usable_python "$PYTHON"; then
      printf '%s\n' "$PYTHON"
      return
    fi
    printf 'PYTHON=%s does not start, or is older than Python 3.10.\n' "$PYTHON" >&2
    return 1
  fi
  for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
    if usable_python "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  printf 'No Python 3.10 or later on PATH. Install one, or name it: PYTHON=/path/to/python3 %s\n' "$0" >&2
  return 1
}
