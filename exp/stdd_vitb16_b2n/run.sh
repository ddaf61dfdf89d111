#!/usr/bin/env bash
# Base to novel, training on the base classes of SET: ucf101 (default), hmdb, k400_s1, ssv2.
# SET=ucf101 DATA_PREFIX=videos bash exp/stdd_vitb16_b2n/run.sh [KEY VALUE …]
#
# With several texts a class, as published: DATA.TEXT_AUG True DATA.TEXT_AUG_FEATURE_FILE base.pt
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
SET="${SET:-ucf101}"
DATA_DIR="${DATA_DIR:-slowfast/datasets/zero_shot/B2N_$SET}"
OUTPUT_DIR="${OUTPUT_DIR:-output/$EXP_NAME}/$SET"
run_net config.yaml DATA.INDEX_LABEL_MAPPING_FILE "$DATA_DIR/raw_train_idx2cls.json" \
  TEST.ENABLE False "$@"
