#!/usr/bin/env bash
# Few-shot methods on one embedding: prototype, STAF, OTAM and TRX with 1 and 5 shots, three seeds. A
# small 3-D ResNet learns the 22 training classes of the composed motions; then every method trains on
# episodes of these classes and is tested on 2000 episodes of 8 others.
# docs/evidence/fewshot.md has the results.
#
#   bash exp/evidence_fewshot/run.sh                              about an hour of one core
#   ROWS=otam SEEDS=0 bash exp/evidence_fewshot/run.sh            one method, one seed
#   THREADS=1 bash exp/evidence_fewshot/run.sh SOLVER.MAX_EPOCH 1 KEY VALUE words
#
# Writes tables, CSV files and plots to OUTPUT_DIR/methods (output/evidence_fewshot/methods), the
# supervised networks to OUTPUT_DIR/start. Stopped, it goes on where it was. Further variables of the
# environment: head of exp/_evidence.sh.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../_evidence.sh"
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
ensure_environment plot "$ROOT"
cd "$ROOT"
DATA="${DATA_DIR:-data/compositions}" OUT="${OUTPUT_DIR:-output/evidence_fewshot}"
# shellcheck disable=SC2086
"$PYTHON" tools/make_compositions.py "$DATA" ${CLIPS:-}
# shellcheck disable=SC2086
"$PYTHON" tools/sweep.py --out "$OUT/start" --cfg "$HERE/start.yaml" --seeds ${SEEDS:-0 1 2} \
  --jobs "${JOBS:-1}" --threads "${THREADS:-0}" -- DATA.PATH_TO_DATA_DIR "$DATA/supervised" \
  DATA.PATH_PREFIX "$DATA/videos" DATA.CLASS_NAMES_PATH "$DATA/supervised/train_classes.json" "$@"
WORDS=(DATA.PATH_TO_DATA_DIR "$DATA" DATA.PATH_PREFIX "$DATA/videos" FEWSHOT.CACHE "$OUT/cache")
sweep_rows "$HERE/variants.yaml" "$OUT/methods" "$@"
