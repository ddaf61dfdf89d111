#!/usr/bin/env bash
# Zero-shot recognition from a fresh clone, with or without a GPU, without any download: environment, package,
# the embedded set of composed motions, a miniature CLIP (a 3-D ResNet and a text tower) that learns
# 28 classes from their names ("left arc braking"), and its test on 8 combinations of these words
# that it has never seen.
#
#   bash exp/quickstart_zeroshot/run.sh                     about five minutes
#   bash exp/quickstart_zeroshot/run.sh RNG_SEED 1          any KEY VALUE words win
#
# Then try your own words: write them to my.json and set DATA.INDEX_LABEL_MAPPING_FILE my.json.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../_help.sh"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
. "$ROOT/tools/_setup.sh"
ensure_environment clip "$ROOT"
cd "$ROOT"
DATA="${DATA_DIR:-data/compositions_large}"
OUT="${OUTPUT_DIR:-output/quickstart_zeroshot}"
# shellcheck disable=SC2086
"$PYTHON" tools/make_compositions.py "$DATA" ${CLIPS:---train 80 --test 40}

# So small a network only waits for a second thread.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

# run_on PART CLASSES KEY VALUE … : one run of the small configuration.
run_on() {
  local part="$1" classes="$2"; shift 2
  "$PYTHON" tools/run_net.py --cfg configs/quickstart/zeroshot.yaml \
    DATA.PATH_TO_DATA_DIR "$DATA/zeroshot" DATA.PATH_PREFIX "$DATA/videos" \
    DATA.INDEX_LABEL_MAPPING_FILE "$DATA/zeroshot/${classes}_classes.json" \
    OUTPUT_DIR "$OUT/$part" "$@"
}

run_on train train "$@"
CHECKPOINT="$(find "$OUT/train/checkpoints" -name 'checkpoint_epoch_?????.pyth' | sort | tail -1)"
tested=(TRAIN.ENABLE False TEST.ENABLE True TEST.CHECKPOINT_FILE_PATH "$CHECKPOINT")
run_on seen train DATA.TEST_LIST val.csv "${tested[@]}" "$@"
run_on unseen test "${tested[@]}" "$@"
"$PYTHON" tools/protocol_table.py --base-novel --out "$OUT/table.md" \
  "compositions=$OUT/seen,$OUT/unseen"
echo "base: other clips of the 28 classes (chance 3.6 %); novel: 8 classes never seen (12.5 %)"
