#!/usr/bin/env bash
# BN-Inception, FCN head, 8 segments, Jester: test of the run's checkpoint, or of CHECKPOINT.
# CHECKPOINT=weights.pth DATA_DIR=lists DATA_PREFIX=frames bash exp/jester_bninception_fcn2d_8/test.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
test_net config.yaml "$@"
