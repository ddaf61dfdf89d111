#!/usr/bin/env bash
# SqueezeNet 1.1, MLP head, 8 segments, Something-Something v2: training, then test.
# DATA_DIR=lists DATA_PREFIX=frames bash exp/something_squeezenet_mlp_8/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
