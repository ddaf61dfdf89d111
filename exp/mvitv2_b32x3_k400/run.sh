#!/usr/bin/env bash
# MViTv2-B, Kinetics-400, 32 frames x 3: training, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/mvitv2_b32x3_k400/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
