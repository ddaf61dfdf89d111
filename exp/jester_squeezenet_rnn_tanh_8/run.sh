#!/usr/bin/env bash
# SqueezeNet 1.1, tanh RNN head, 8 segments, Jester: training, then test.
# DATA_DIR=lists DATA_PREFIX=frames bash exp/jester_squeezenet_rnn_tanh_8/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
