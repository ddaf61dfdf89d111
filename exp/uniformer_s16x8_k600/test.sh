#!/usr/bin/env bash
# UniFormer-S + STFM, Kinetics-600, 16 frames x 8: test of the run's checkpoint, or of CHECKPOINT.
# CHECKPOINT=weights.pyth DATA_DIR=lists DATA_PREFIX=videos bash exp/uniformer_s16x8_k600/test.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
test_net config.yaml "$@"
