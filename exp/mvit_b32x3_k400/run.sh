#!/usr/bin/env bash
# MViT-B (v1), Kinetics-400, 32 frames x 3: training, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/mvit_b32x3_k400/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
