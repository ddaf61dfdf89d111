#!/usr/bin/env bash
# UniFormer-S + STFM, Something-Something v2, 16 frames, from Kinetics-600 weights: test of the run's checkpoint, or of CHECKPOINT.
# CHECKPOINT=weights.pyth DATA_DIR=lists DATA_PREFIX=videos bash exp/uniformer_s16_sthv2_prek600/test.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
test_net test.yaml "$@"
