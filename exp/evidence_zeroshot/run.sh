#!/usr/bin/env bash
# Zero-shot recognition of unseen combinations of words, three seeds: visual towers and kinds of
# temporal modelling, tested on classes of training and on unseen ones, with the frames of the test
# clips in their order and in random order. docs/evidence/zeroshot.md has the results.
#
# The 3-D ResNet and the text tower learn together. The vision transformers learn with the texts of
# that run, which stay as they are, so that resnet3d has to be made before them (or with them).
#
#   bash exp/evidence_zeroshot/run.sh                        50 minutes of one core
#   TOWERS="resnet3d vit" bash exp/evidence_zeroshot/run.sh  these alone; vit_conv3d and the names of
#                                                            MODEL.TEMPORAL_MODELING_TYPE as well
#   THREADS=1 bash exp/evidence_zeroshot/run.sh SOLVER.MAX_EPOCH 1   KEY VALUE words
#
# Writes a table, CSV files, plots, and words.md (how many directions, paths and speeds are right) to
# OUTPUT_DIR (output/evidence_zeroshot). Stopped, it goes on where it was. Further variables of the
# environment: head of exp/_evidence.sh.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../_evidence.sh"
ensure_environment clip "$ROOT"
ensure_environment plot "$ROOT"
cd "$ROOT"
DATA="${DATA_DIR:-data/compositions_large}" OUT="${OUTPUT_DIR:-output/evidence_zeroshot}"
# shellcheck disable=SC2086
"$PYTHON" tools/make_compositions.py "$DATA" ${CLIPS:---train 80 --test 40}
TOWERS="${TOWERS:-resnet3d vit stcross_attend expand_temporal_view}"
WORDS=(DATA.PATH_TO_DATA_DIR "$DATA/zeroshot" DATA.PATH_PREFIX "$DATA/videos")

# tower_words TOWER: its configuration file and words.
tower_words() {
  local transformer="configs/quickstart/zeroshot_vit.yaml MODEL.TEMPORAL_MODELING_TYPE"
  case "$1" in
    resnet3d) echo "configs/quickstart/zeroshot.yaml" ;;
    vit) echo "$transformer None" ;;
    vit_conv3d) echo "$transformer None CLIP.STEM conv3d" ;;
    *) echo "$transformer $1" ;;
  esac
}

# write_row NAME GROUP CFG WORDS: a row of the sweep, as YAML.
write_row() { printf -- '- name: %s\n  group: %s\n  cfg: %s\n  words: >-\n    %s\n' "$@"; }

# A training with its test on seen classes, and three further tests of its weights.
write_rows() {
  local tower cfg words start test
  local texts="TRAIN.CHECKPOINT_FILE_PATH"
  texts+=" {out}/resnet3d_seen/seed_{seed}/checkpoints/checkpoint_best.pyth"
  texts+=" CLIP.TRAINED \"['visual','logit_scale']\""
  local seen="TEST.ENABLE True DATA.TEST_LIST val.csv"
  seen+=" DATA.INDEX_LABEL_MAPPING_FILE $DATA/zeroshot/train_classes.json"
  local unseen="TEST.ENABLE True DATA.INDEX_LABEL_MAPPING_FILE $DATA/zeroshot/test_classes.json"
  local shuffled="DATA.TRANSFORMS_BEFORE \"['shuffle_time']\""
  for tower in $TOWERS; do
    read -r cfg words <<< "$(tower_words "$tower")"
    if [ "$tower" = resnet3d ]; then start=""; else start="$texts"; fi
    test="$words TRAIN.ENABLE False"
    test+=" TEST.CHECKPOINT_FILE_PATH {out}/${tower}_seen/seed_{seed}/checkpoints/checkpoint_best.pyth"
    write_row "$tower seen" "seen" "$cfg" "$words $start $seen"
    write_row "$tower unseen" "unseen" "$cfg" "$test $unseen"
    write_row "$tower seen shuffled" "seen, shuffled" "$cfg" "$test $seen $shuffled"
    write_row "$tower unseen shuffled" "unseen, shuffled" "$cfg" "$test $unseen $shuffled"
  done
}

# word_tables: how often the first, second and third word of a class is right.
word_tables() {
  local tower test seed rows=()
  for tower in $TOWERS; do
    for test in seen unseen seen_shuffled unseen_shuffled; do
      rows+=("$tower $test=$(for seed in ${SEEDS:-0 1 2}; do
        printf '%s,' "$OUT/${tower}_$test/seed_$seed"
      done | sed 's/,$//')")
    done
  done
  local number=0 word
  for word in direction path speed; do
    number=$((number + 1))
    printf '\n%s\n\n' "$word"
    "$PYTHON" tools/protocol_table.py --word "$number" "${rows[@]}"
  done
}

mkdir -p "$OUT"
write_rows > "$OUT/rows.yaml"
sweep_rows "$OUT/rows.yaml" "$OUT" "$@"
if [ -z "${ROWS:-}${GATHER:-}" ]; then word_tables > "$OUT/words.md"; fi
