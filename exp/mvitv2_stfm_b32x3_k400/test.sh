#!/usr/bin/env bash
# MViTv2-B + STFM, Kinetics-400, 32 frames x 3: test of the run's checkpoint, or of CHECKPOINT.
# CHECKPOINT=weights.pyth DATA_DIR=lists DATA_PREFIX=videos bash exp/mvitv2_stfm_b32x3_k400/test.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
test_net config.yaml "$@"
