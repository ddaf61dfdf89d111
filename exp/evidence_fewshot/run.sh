#!/usr/bin/env bash
# Few-shot methods on one embedding: prototype, STAF, OTAM and TRX with 1 and 5 shots, three seeds.
# A small 3-D ResNet learns the 22 training classes of the composed motions, then every method
# trains on episodes of them and is tested on 2000 episodes of 8 other classes (docs/evidence/fewshot.md).
#
#   bash exp/evidence_fewshot/run.sh                            about an hour of one core
#   SEEDS=0 bash exp/evidence_fewshot/run.sh                    one seed
#   bash exp/evidence_fewshot/run.sh SOLVER.MAX_EPOCH 1         any KEY VALUE words win
#
# Writes tables and plots to OUTPUT_DIR (output/evidence_fewshot), the supervised networks to
# OUTPUT_DIR/start. Stopped, it goes on where it was.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../_help.sh"
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
ROOT="$(cd "$HERE/../.." && pwd)"
. "$ROOT/tools/_setup.sh"
ensure_environment plot "$ROOT"
cd "$ROOT"
DATA="${DATA_DIR:-data/compositions}"
# shellcheck disable=SC2086
"$PYTHON" tools/make_compositions.py "$DATA" ${CLIPS:-}
OUT="${OUTPUT_DIR:-output/evidence_fewshot}"
# shellcheck disable=SC2206
OPTIONS=(--seeds ${SEEDS:-0 1 2} --jobs "${JOBS:-1}" --threads "${THREADS:-1}")
"$PYTHON" tools/sweep.py --out "$OUT/start" --cfg "$HERE/start.yaml" "${OPTIONS[@]}" \
  -- DATA.PATH_TO_DATA_DIR "$DATA/zeroshot" DATA.PATH_PREFIX "$DATA/videos" \
  DATA.CLASS_NAMES_PATH "$DATA/zeroshot/train_classes.json" "$@"
exec "$PYTHON" tools/sweep.py --out "$OUT/methods" --variants "$HERE/variants.yaml" "${OPTIONS[@]}" \
  -- DATA.PATH_TO_DATA_DIR "$DATA" DATA.PATH_PREFIX "$DATA/videos" FEWSHOT.CACHE "$OUT/cache" "$@"
