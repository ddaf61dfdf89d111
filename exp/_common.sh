# Sourced by exp/*/run.sh and test.sh: finds python, the experiment's folder and paths.
#
#   DATA_DIR     folder of the lists                 (DATA.PATH_TO_DATA_DIR)
#   DATA_PREFIX  folder that the lists' paths are in (DATA.PATH_PREFIX)
#   CHECKPOINT   weights that test.sh tests          (TEST.CHECKPOINT_FILE_PATH)
#   OUTPUT_DIR   folder that the run writes to       (default: output/<experiment>)
#   PYTHON       the interpreter                     (default: an active environment's, .venv)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_help.sh"

EXP_DIR="$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
EXP_NAME="$(basename "$EXP_DIR")"
# A published test may differ from the training's configuration.
TEST_CONFIG=config.yaml
if [ -f "$EXP_DIR/test.yaml" ]; then TEST_CONFIG=test.yaml; fi
cd "$ROOT"

if [ -z "${PYTHON:-}" ]; then
  if [ -z "${VIRTUAL_ENV:-}" ] && [ -x "$ROOT/.venv/bin/python" ]; then
    PYTHON="$ROOT/.venv/bin/python"
  else
    PYTHON="$(command -v python || command -v python3)"
  fi
fi

# run_net CONFIG KEY VALUE … : later words win, so a script's own come before the user's "$@".
# On the command line --options (--dry-run, --print-config) may be mixed with KEY VALUE words.
run_net() {
  local config="$1"; shift
  local paths=(OUTPUT_DIR "${OUTPUT_DIR:-output/$EXP_NAME}")
  if [ -n "${DATA_DIR:-}" ]; then paths+=(DATA.PATH_TO_DATA_DIR "$DATA_DIR"); fi
  if [ -n "${DATA_PREFIX:-}" ]; then paths+=(DATA.PATH_PREFIX "$DATA_PREFIX"); fi
  "$PYTHON" "$ROOT/tools/run_net.py" --cfg "$EXP_DIR/$config" "${paths[@]}" "$@"
}

# test_net CONFIG KEY VALUE … : test only; the run's own checkpoint unless CHECKPOINT names one.
test_net() {
  local config="$1"; shift
  local words=(TRAIN.ENABLE False)
  if [ -n "${CHECKPOINT:-}" ]; then words+=(TEST.CHECKPOINT_FILE_PATH "$CHECKPOINT"); fi
  run_net "$config" "${words[@]}" "$@"
}
