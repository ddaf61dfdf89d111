#!/usr/bin/env bash
# UniFormer-B + STFM, Something-Something v1, 32 frames, from Kinetics-400 weights: test of the run's checkpoint, or of CHECKPOINT.
# CHECKPOINT=weights.pyth DATA_DIR=lists DATA_PREFIX=videos bash exp/uniformer_b32_sthv1_prek400/test.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
test_net config.yaml "$@"
