#!/usr/bin/env bash
# TimeSformer and STAM from random weights in at most five CPU minutes: small frames, few of them, on
# the large embedded set (6400 training clips, as folders of frames); three seeds, a table and a plot
# (docs/evidence/starts.md).
#
#   bash exp/evidence_starts/run.sh                             about an hour of one core
#   ROWS="STAM, 4 frames" SEEDS=0 bash exp/evidence_starts/run.sh   one row of variants.yaml
#   JOBS=2 bash exp/evidence_starts/run.sh SOLVER.MAX_EPOCH 1   any KEY VALUE words win
#
# Writes tables and plots to OUTPUT_DIR (output/evidence_starts). Stopped, it goes on where it was.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../_help.sh"
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
ROOT="$(cd "$HERE/../.." && pwd)"
. "$ROOT/tools/_setup.sh"
ensure_environment plot "$ROOT"
cd "$ROOT"
DATA="${DATA_DIR:-data/moving_shapes_8_large}"
# shellcheck disable=SC2086
embedded_frames "$DATA" --classes 8 ${SHAPES:---train 800 --val 2 --test 50}
OPTIONS=()
if [ -n "${ROWS:-}" ]; then OPTIONS=(--rows "$ROWS"); fi
# shellcheck disable=SC2086
exec "$PYTHON" tools/sweep.py --out "${OUTPUT_DIR:-output/evidence_starts}" \
  --variants "$HERE/variants.yaml" --seeds ${SEEDS:-0 1 2} --jobs "${JOBS:-1}" \
  --threads "${THREADS:-1}" ${OPTIONS[@]+"${OPTIONS[@]}"} \
  -- TRAIN.DATASET kinetics TEST.DATASET kinetics DATA.PATH_TO_DATA_DIR "${DATA}_frames" \
  DATA.PATH_PREFIX "${DATA}_frames" "$@"
