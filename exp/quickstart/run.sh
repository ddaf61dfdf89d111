#!/usr/bin/env bash
# From a fresh clone to a tested network, with or without a GPU, without any download of data:
# environment, package, embedded data set, training of a small UniFormer+STFM, multi-view test.
#
#   bash exp/quickstart/run.sh                       8 classes of motion, a few minutes
#   bash exp/quickstart/run.sh SOLVER.MAX_EPOCH 2    any KEY VALUE words win
#   CONFIG=uniformer bash exp/quickstart/run.sh      another network: uniformer, stfm_hard, mvit,
#                                                    mvit_stfm, timesformer, timesformer_stfm,
#                                                    stam, slow, slowfast, i3d, x3d; blind to
#                                                    order: c2d, frame_average
#   EMBEDDED=0 bash exp/quickstart/run.sh …          data of your own: do not generate
#
# The same recipe on real video, with nothing but KEY VALUE words: MIRACL-VC1, ten spoken
# phrases, people of the test list never seen in training; M is the folder of its lists
# (phrases_train.csv, phrases_test.csv, phrases_classes.txt):
#
#   M=path/to/miracl_vc1; EMBEDDED=0 DATA_DIR=$M OUTPUT_DIR=output/miracl \
#   bash exp/quickstart/run.sh \
#     TRAIN.DATASET kinetics TEST.DATASET kinetics DATA.PATH_PREFIX $M \
#     DATA.TRAIN_LIST phrases_train.csv DATA.VAL_LIST phrases_test.csv \
#     DATA.TEST_LIST phrases_test.csv DATA.CLASS_NAMES_PATH $M/phrases_classes.txt \
#     MODEL.NUM_CLASSES 10 DATA.RANDOM_FLIP True DATA.KEEP_ASPECT False \
#     DATA.SAMPLING segment SOLVER.MAX_EPOCH 10
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../_help.sh"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
. "$ROOT/tools/_setup.sh"
ensure_environment "" "$ROOT"
cd "$ROOT"
DATA="${DATA_DIR:-data/moving_shapes_8}"
if [ "${EMBEDDED:-1}" = 1 ]; then
  # shellcheck disable=SC2086
  "$PYTHON" tools/make_moving_shapes.py "$DATA" --classes 8 \
    ${SHAPES:---train 200 --val 12 --test 25}
fi
CONFIG="${CONFIG:-stfm}"
OUTPUT_DIR="${OUTPUT_DIR:-output/quickstart_$CONFIG}"
exec "$PYTHON" tools/run_net.py --cfg "configs/quickstart/$CONFIG.yaml" \
  DATA.PATH_TO_DATA_DIR "$DATA" OUTPUT_DIR "$OUTPUT_DIR" "$@"
