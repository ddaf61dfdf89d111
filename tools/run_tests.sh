#!/usr/bin/env bash
# The whole test suite, self-contained: makes .venv if no environment is active, installs the
# package with its test extras, checks the style, runs pytest. Arguments go to pytest:
#   bash tools/run_tests.sh tests/video -k pyav
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$ROOT"
. tools/_setup.sh
ensure_environment test "$ROOT"
"$PYTHON" -m ruff check slowfast tools tests
"$PYTHON" -m ruff format --check slowfast tools tests
# One thread each: the tests themselves run on all cores.
export OMP_NUM_THREADS=1
exec "$PYTHON" -m pytest -n auto "$@"
