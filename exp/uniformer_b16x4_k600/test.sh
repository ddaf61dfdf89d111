#!/usr/bin/env bash
# UniFormer-B + STFM, Kinetics-600, 16 frames x 4: test of the run's checkpoint, or of CHECKPOINT.
# CHECKPOINT=weights.pyth DATA_DIR=lists DATA_PREFIX=videos bash exp/uniformer_b16x4_k600/test.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
test_net config.yaml "$@"
