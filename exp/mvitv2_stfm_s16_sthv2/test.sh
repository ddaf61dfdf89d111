#!/usr/bin/env bash
# MViTv2-S + STFM, Something-Something v2, 16 frames: test of the run's checkpoint, or of CHECKPOINT.
# CHECKPOINT=weights.pyth DATA_DIR=lists DATA_PREFIX=videos bash exp/mvitv2_stfm_s16_sthv2/test.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
test_net config.yaml "$@"
