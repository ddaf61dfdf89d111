#!/usr/bin/env bash
# Zero-shot recognition of unseen combinations of words, three seeds: visual towers and kinds of
# temporal modelling, each also tested with the frames of the test clips in random order.
#
#   bash exp/evidence_zeroshot/run.sh                      everything, then the tables
#   SEEDS="0" ROWS="resnet3d" bash exp/evidence_zeroshot/run.sh
#   bash exp/evidence_zeroshot/run.sh SOLVER.MAX_EPOCH 1   any KEY VALUE words win
#
# Trainings that have ended and tests that are there are not repeated; a stopped training goes on.
# TABLES=0 trains and tests only (several machines make a part each).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../_help.sh"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
. "$ROOT/tools/_setup.sh"
ensure_environment clip "$ROOT"
cd "$ROOT"
DATA="${DATA_DIR:-data/compositions_large}"
OUT="${OUTPUT_DIR:-output/evidence_zeroshot}"
SEEDS="${SEEDS:-0 1 2}"
ROWS="${ROWS:-resnet3d none stcross_attend expand_temporal_view stadapt_zeroinit}"
# shellcheck disable=SC2086
"$PYTHON" tools/make_compositions.py "$DATA" ${CLIPS:---train 80 --test 40}
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

# run_on FOLDER ROW CLASSES KEY VALUE … : one run of the configuration of a row.
run_on() {
  local folder="$1" row="$2" classes="$3"; shift 3
  local config=(configs/quickstart/zeroshot_vit.yaml) kind=(MODEL.TEMPORAL_MODELING_TYPE "$row")
  case "$row" in
    resnet3d) config=(configs/quickstart/zeroshot.yaml) kind=() ;;
    none) kind=(MODEL.TEMPORAL_MODELING_TYPE None) ;;
  esac
  "$PYTHON" tools/run_net.py --cfg "${config[@]}" "${kind[@]}" \
    DATA.PATH_TO_DATA_DIR "$DATA/zeroshot" DATA.PATH_PREFIX "$DATA/videos" \
    DATA.INDEX_LABEL_MAPPING_FILE "$DATA/zeroshot/${classes}_classes.json" \
    OUTPUT_DIR "$folder" "$@"
}

# test_on FOLDER ROW CLASSES KEY VALUE … : a test of a training's last checkpoint, unless it is there.
test_on() {
  local folder="$1" checkpoint
  [ -d "$folder/tests" ] && return
  checkpoint="$(find "$(dirname "$folder")/train/checkpoints" -name 'checkpoint_epoch_?????.pyth' \
    | sort | tail -1)"
  run_on "$@" TRAIN.ENABLE False TEST.ENABLE True TEST.CHECKPOINT_FILE_PATH "$checkpoint"
}

for row in $ROWS; do
  for seed in $SEEDS; do
    run="$OUT/$row/$seed" words=(RNG_SEED "$seed" "$@")
    shuffled=(DATA.TRANSFORMS_BEFORE "['shuffle_time']")
    if [ ! -e "$run/trained" ]; then
      run_on "$run/train" "$row" train "${words[@]}"
      touch "$run/trained"
    fi
    test_on "$run/seen" "$row" train DATA.TEST_LIST val.csv "${words[@]}"
    test_on "$run/unseen" "$row" test "${words[@]}"
    test_on "$run/seen_shuffled" "$row" train DATA.TEST_LIST val.csv "${shuffled[@]}" "${words[@]}"
    test_on "$run/unseen_shuffled" "$row" test "${shuffled[@]}" "${words[@]}"
  done
done
[ "${TABLES:-1}" = 1 ] || exit 0

# tests_of PART: words NAME=DIR,DIR… of all rows for tools/protocol_table.py.
tests_of() {
  local row seed
  for row in $ROWS; do
    printf '%s=' "$row"
    for seed in $SEEDS; do printf '%s,' "$OUT/$row/$seed/$1"; done | sed 's/,$//'
    printf '\n'
  done
}
for part in seen unseen seen_shuffled unseen_shuffled; do
  mapfile -t rows < <(tests_of "$part")
  echo "$part"
  "$PYTHON" tools/protocol_table.py --out "$OUT/$part.md" "${rows[@]}"
  echo "$part, words of direction"
  "$PYTHON" tools/protocol_table.py --word 1 --out "$OUT/${part}_direction.md" "${rows[@]}"
done
