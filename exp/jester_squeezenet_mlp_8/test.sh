#!/usr/bin/env bash
# SqueezeNet 1.1, MLP head, 8 segments, Jester: test of the run's checkpoint, or of CHECKPOINT.
# CHECKPOINT=weights.pth DATA_DIR=lists DATA_PREFIX=frames bash exp/jester_squeezenet_mlp_8/test.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
test_net config.yaml "$@"
