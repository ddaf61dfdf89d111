#!/usr/bin/env bash
# TimeSformer and STAM from random weights in five CPU minutes: small frames, on 6400 training clips of
# the embedded set, as folders of frames; three seeds, a table and a plot.
# docs/evidence/starts.md has the results.
#
#   bash exp/evidence_starts/run.sh                                      half an hour of one core
#   ROWS=STAM SEEDS=0 bash exp/evidence_starts/run.sh                    one run
#   THREADS=1 bash exp/evidence_starts/run.sh SOLVER.MAX_EPOCH 1         KEY VALUE words
#
# Writes tables, CSV files and plots to OUTPUT_DIR (output/evidence_starts). Stopped, it goes on where
# it was. Further variables of the environment: head of exp/_evidence.sh.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../_evidence.sh"
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
ensure_environment plot "$ROOT"
cd "$ROOT"
DATA="${DATA_DIR:-data/moving_shapes_8_starts}" FRAMES_SIDE=36
# shellcheck disable=SC2086
embedded_frames "$DATA" --classes 8 ${SHAPES:---train 800 --val 2 --test 50}
WORDS=(TRAIN.DATASET kinetics TEST.DATASET kinetics
  DATA.PATH_TO_DATA_DIR "${DATA}_frames" DATA.PATH_PREFIX "${DATA}_frames")
sweep_rows "$HERE/variants.yaml" "${OUTPUT_DIR:-output/evidence_starts}" "$@"
