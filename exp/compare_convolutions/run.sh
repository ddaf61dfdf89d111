#!/usr/bin/env bash
# Slow, SlowFast, I3D, C2D and X3D, small enough for a CPU, on the embedded set: three seeds, tables
# and plots. C2D is blind to the order of frames.
#
#   bash exp/compare_convolutions/run.sh                          about an hour of one core
#   NETWORKS="slowfast c2d" SEEDS=0 bash exp/compare_convolutions/run.sh
#   JOBS=2 bash exp/compare_convolutions/run.sh SOLVER.MAX_EPOCH 1  any KEY VALUE words win
#
# Writes table.md, runs.csv, means.csv, results.json and plots to OUTPUT_DIR
# (output/compare_convolutions). Stopped, it goes on where it was.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../_help.sh"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
. "$ROOT/tools/_setup.sh"
ensure_environment plot "$ROOT"
cd "$ROOT"
DATA="${DATA_DIR:-data/moving_shapes_8}"
# shellcheck disable=SC2086
"$PYTHON" tools/make_moving_shapes.py "$DATA" --classes 8 ${SHAPES:---train 200 --val 12 --test 25}
CONFIGS=()
for name in ${NETWORKS:-slow slowfast i3d c2d x3d}; do
  CONFIGS+=("configs/quickstart/$name.yaml")
done
# shellcheck disable=SC2086
exec "$PYTHON" tools/sweep.py --out "${OUTPUT_DIR:-output/compare_convolutions}" \
  --cfg "${CONFIGS[@]}" --seeds ${SEEDS:-0 1 2} --jobs "${JOBS:-1}" --threads "${THREADS:-0}" \
  -- DATA.PATH_TO_DATA_DIR "$DATA" "$@"
