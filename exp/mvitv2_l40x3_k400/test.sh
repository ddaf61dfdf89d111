#!/usr/bin/env bash
# MViTv2-L, Kinetics-400, 40 frames x 3 of 312 pixels: test of the run's checkpoint, or of CHECKPOINT.
# CHECKPOINT=weights.pyth DATA_DIR=lists DATA_PREFIX=videos bash exp/mvitv2_l40x3_k400/test.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
test_net config.yaml "$@"
