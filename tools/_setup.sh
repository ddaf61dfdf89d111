# Sourced by run_tests.sh and exp/quickstart/run.sh: an environment with the package installed.
#   embedded_frames DATA OPTIONS…   moving_shapes in DATA, as folders of frames in DATA_frames;
#                                   FRAMES_SIDE: short side of the frames (72)
# Makes .venv if no environment is active; installs only what is missing or has changed.
#   ensure_environment EXTRA    EXTRA: "" or a name from pyproject.toml, e.g. test
ensure_environment() {
  local extra="$1" root="$2"
  if [ -z "${VIRTUAL_ENV:-}" ]; then
    if [ ! -x "$root/.venv/bin/python" ]; then
      echo "making a virtual environment in $root/.venv"
      "$(command -v python3 || command -v python)" -m venv "$root/.venv"
    fi
    # shellcheck disable=SC1091
    . "$root/.venv/bin/activate"
  fi
  PYTHON="$VIRTUAL_ENV/bin/python"
  export PYTHON
  local stamp="$VIRTUAL_ENV/.slowfast-installed${extra:+-$extra}"
  local wanted
  wanted="$root $(cat "$root/pyproject.toml" "$root/constraints.txt" | cksum)"
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    return 0
  fi
  echo "installing the package into $VIRTUAL_ENV (a few minutes the first time)"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check \
    --constraint "$root/constraints.txt" --editable "$root${extra:+[$extra]}"
  echo "$wanted" > "$stamp"
}

embedded_frames() {
  local data="$1"; shift
  "$PYTHON" tools/make_moving_shapes.py "$data" "$@"
  "$PYTHON" tools/extract_frames.py "$data" "${data}_frames" --short-side "${FRAMES_SIDE:-72}" \
    --lists train.csv val.csv test.csv
}
