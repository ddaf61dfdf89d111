#!/usr/bin/env bash
# BN-Inception, averaged, 8 segments, Jester: training, then test.
# DATA_DIR=lists DATA_PREFIX=frames bash exp/jester_bninception_tsn_8/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
