#!/usr/bin/env bash
# TimeSformer-B/16, Kinetics-400, 8 frames x 32: training, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/timesformer_b8x32_k400/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
