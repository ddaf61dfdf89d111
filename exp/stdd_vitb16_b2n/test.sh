#!/usr/bin/env bash
# Base to novel: tests of the base and of the novel classes of SET, and their harmonic mean.
# SET=ucf101 DATA_PREFIX=videos bash exp/stdd_vitb16_b2n/test.sh [KEY VALUE …]
#
# The run's own checkpoint, or CHECKPOINT (an average: tools/average_weights.py).
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
SET="${SET:-ucf101}"
DATA_DIR="${DATA_DIR:-slowfast/datasets/zero_shot/B2N_$SET}"
RUN="${OUTPUT_DIR:-output/$EXP_NAME}/$SET"
if [ -z "${CHECKPOINT:-}" ]; then
  CHECKPOINT="$(find "$RUN/checkpoints" -name 'checkpoint_epoch_?????.pyth' 2>/dev/null | sort | tail -1 || true)"
  if [ -z "$CHECKPOINT" ]; then
    echo "error: $RUN holds no checkpoint: train first (run.sh), or set CHECKPOINT" >&2
    exit 2
  fi
fi
for part in base novel; do
  if [ "$part" = base ]; then list=val.csv classes=train; else list=test.csv classes=test; fi
  OUTPUT_DIR="$RUN/$part" test_net config.yaml DATA.TEST_LIST "$list" DATA.TEXT_AUG False \
    DATA.INDEX_LABEL_MAPPING_FILE "$DATA_DIR/raw_${classes}_idx2cls.json" "$@"
done
"$PYTHON" "$ROOT/tools/protocol_table.py" --base-novel --out "$RUN/table.md" \
  "$SET=$RUN/base,$RUN/novel"
