#!/usr/bin/env bash
# BN-Inception, FCN head, 8 segments, Jester: training, then test.
# DATA_DIR=lists DATA_PREFIX=frames bash exp/jester_bninception_fcn2d_8/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
