#!/usr/bin/env bash
# The comparison of "Comparative Analysis of CNN-based Spatiotemporal Reasoning in Videos" on the
# embedded data: every head on one small 2-D network, three seeds, a table and a plot.
#
#   bash exp/compare_heads/run.sh                                     about half an hour, two cores
#   HEADS="TSN MLP" SEEDS=0 bash exp/compare_heads/run.sh             some of it
#   JOBS=1 bash exp/compare_heads/run.sh SOLVER.MAX_EPOCH 3           any KEY VALUE words win
#
# Writes table.md, results.json and plot.png to OUTPUT_DIR (output/compare_heads). Stopped, it goes
# on where it was.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../_help.sh"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
. "$ROOT/tools/_setup.sh"
ensure_environment plot "$ROOT"
cd "$ROOT"
DATA="${DATA_DIR:-data/moving_shapes_8}"
# shellcheck disable=SC2086
embedded_frames "$DATA" --classes 8 ${SHAPES:---train 200 --val 12 --test 25}
# shellcheck disable=SC2086
exec "$PYTHON" tools/sweep.py --out "${OUTPUT_DIR:-output/compare_heads}" \
  --cfg configs/quickstart/heads.yaml --seeds ${SEEDS:-0 1 2} --jobs "${JOBS:-2}" --threads "${THREADS:-0}" \
  --vary TSN.CONSENSUS ${HEADS:-TSN MLP TRNmultiscale RNN_TANH RNN_RELU LSTM GRU BLSTM FCN2D \
  FCN3D CONVLSTM Transformer} \
  -- DATA.PATH_TO_DATA_DIR "${DATA}_frames" DATA.PATH_PREFIX "${DATA}_frames" "$@"
