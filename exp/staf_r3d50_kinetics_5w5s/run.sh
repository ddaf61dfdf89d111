#!/usr/bin/env bash
# STAF, 3-D ResNet-50, Kinetics-100, 5-way 5-shot: training, then test.
# DATA_PREFIX=folder of <class>/<video> bash exp/staf_r3d50_kinetics_5w5s/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
