#!/usr/bin/env bash
# MViTv2, TimeSformer and STAM, with STFM in several places and without it, small enough for a CPU,
# on the large embedded set (6400 training clips, as folders of frames): three seeds, a table and a
# plot.
#
#   bash exp/compare_families/run.sh                            some hours of one core
#   NETWORKS="mvitv2 mvitv2_stfm" SEEDS=0 bash exp/compare_families/run.sh
#   JOBS=2 bash exp/compare_families/run.sh SOLVER.MAX_EPOCH 1  any KEY VALUE words win
#
# Writes table.md, results.json and plot.png to OUTPUT_DIR (output/compare_families). Stopped, it
# goes on where it was.
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
CONFIGS=()
ALL="mvitv2 mvitv2_stfm mvitv2_stfm_block0"
ALL+=" timesformer timesformer_stfm timesformer_stfm_block0 timesformer_stfm_block2 stam"
for name in ${NETWORKS:-$ALL}; do
  CONFIGS+=("$HERE/$name.yaml")
done
# shellcheck disable=SC2086
exec "$PYTHON" tools/sweep.py --out "${OUTPUT_DIR:-output/compare_families}" \
  --cfg "${CONFIGS[@]}" --seeds ${SEEDS:-0 1 2} --jobs "${JOBS:-1}" --threads "${THREADS:-0}" \
  -- TRAIN.DATASET kinetics TEST.DATASET kinetics DATA.PATH_TO_DATA_DIR "${DATA}_frames" \
  DATA.PATH_PREFIX "${DATA}_frames" "$@"
