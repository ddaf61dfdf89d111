#!/usr/bin/env bash
# SqueezeNet 1.1, FCN head, 8 segments, Something-Something v2: test of the run's checkpoint, or of CHECKPOINT.
# CHECKPOINT=weights.pth DATA_DIR=lists DATA_PREFIX=frames bash exp/something_squeezenet_fcn2d_8/test.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
test_net config.yaml "$@"
