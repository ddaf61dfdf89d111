#!/usr/bin/env bash
# TimeSformer-L, Kinetics-400, 96 frames x 4: training, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/timesformer_l96x4_k400/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
