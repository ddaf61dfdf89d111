#!/usr/bin/env bash
# Few-shot recognition from a fresh clone, with or without a GPU, without any download: environment, package,
# the embedded set of 36 composed motions (22 classes train, 8 others are tested), a small 3-D
# ResNet with STAF and two baselines, one table with intervals.
#
#   bash exp/quickstart_fewshot/run.sh                            about five minutes per method
#   METHODS=fewshot bash exp/quickstart_fewshot/run.sh            STAF alone
#   bash exp/quickstart_fewshot/run.sh FEWSHOT.SHOT 5             any KEY VALUE words win
#
# Then: python tools/compare_runs.py output/quickstart_fewshot/{fewshot_prototype,fewshot}/seed_0
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../_help.sh"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
. "$ROOT/tools/_setup.sh"
ensure_environment plot "$ROOT"
cd "$ROOT"
DATA="${DATA_DIR:-data/compositions}"
# shellcheck disable=SC2086
"$PYTHON" tools/make_compositions.py "$DATA" ${CLIPS:-}
OUTPUT_DIR="${OUTPUT_DIR:-output/quickstart_fewshot}"
CONFIGS=()
for name in ${METHODS:-fewshot fewshot_prototype fewshot_otam}; do
  CONFIGS+=("configs/quickstart/$name.yaml")
done
# shellcheck disable=SC2086
exec "$PYTHON" tools/sweep.py --out "$OUTPUT_DIR" --cfg "${CONFIGS[@]}" --seeds ${SEEDS:-0} \
  --jobs "${JOBS:-1}" --threads "${THREADS:-0}" -- DATA.PATH_TO_DATA_DIR "$DATA" DATA.PATH_PREFIX "$DATA/videos" \
  FEWSHOT.CACHE "$OUTPUT_DIR/cache" "$@"
