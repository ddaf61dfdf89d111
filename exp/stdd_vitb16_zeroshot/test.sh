#!/usr/bin/env bash
# Zero-shot protocols: UCF101 and HMDB51 (three splits each) and Kinetics-600 (three times 160
# classes), mean ± standard deviation over the splits. A set is tested if its folder is given.
#
#   CHECKPOINT=swa_2_22.pyth UCF101=videos HMDB51=videos K600=videos \
#     bash exp/stdd_vitb16_zeroshot/test.sh [KEY VALUE …]
#
# Without CHECKPOINT it is CLIP itself (pretrained/ViT-B-16.pt). Open-VCLIP's mixture of both:
# TEST.PATCHING_MODEL True TEST.PATCHING_RATIO 0.5. Writes table.md to OUTPUT_DIR.
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
OUT="${OUTPUT_DIR:-output/$EXP_NAME}"
LISTS="${LISTS:-slowfast/datasets/zero_shot}"
MAPS="slowfast/datasets/class_maps"
ROWS=()

# test_splits NAME FOLDER LIST MAP KEY VALUE … : {} in MAP is the list of the split.
test_splits() {
  local name="$1" folder="$2" list="$3" map="$4" tests=(); shift 4
  for split in 1 2 3; do
    OUTPUT_DIR="$OUT/$list$split" DATA_DIR="$LISTS/$list$split" DATA_PREFIX="$folder" \
      test_net config.yaml DATA.INDEX_LABEL_MAPPING_FILE "${map//\{\}/$LISTS/$list$split}" "$@"
    tests+=("$OUT/$list$split")
  done
  ROWS+=("$name=$(IFS=,; echo "${tests[*]}")")
}

if [ -n "${UCF101:-}" ]; then test_splits UCF101 "$UCF101" ucf101_split "$MAPS/ucf101.json" "$@"; fi
if [ -n "${HMDB51:-}" ]; then test_splits HMDB51 "$HMDB51" hmdb_split "$MAPS/hmdb51.json" "$@"; fi
if [ -n "${K600:-}" ]; then
  test_splits Kinetics-600 "$K600" k600_split "{}/k600-openset-index2cls.json" "$@"
fi
if [ "${#ROWS[@]}" = 0 ]; then
  echo "error: name a folder of videos: UCF101=…, HMDB51=… or K600=…" >&2
  exit 2
fi
"$PYTHON" "$ROOT/tools/protocol_table.py" --out "$OUT/table.md" "${ROWS[@]}"
