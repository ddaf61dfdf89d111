#!/usr/bin/env bash
# UniFormer-S + STFM, Something-Something v2, 32 frames, from Kinetics-600 weights: test of the run's checkpoint, or of CHECKPOINT.
# CHECKPOINT=weights.pyth DATA_DIR=lists DATA_PREFIX=videos bash exp/uniformer_s32_sthv2_prek600/test.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
test_net config.yaml "$@"
