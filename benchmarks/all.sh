#!/usr/bin/env bash
# Runs the benchmarks of docs/performance.md, devices.md and larger_data.md that need no GPU one after the other, each
# into a table (.md) and its figures (.json). PYTHON=... before the command names another interpreter than .venv/bin/python.
#
#   benchmarks/all.sh --root data --cifar10 FOLDER [--out runs/benchmarks]
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
python=${PYTHON:-$here/../.venv/bin/python}
root=data cifar10= out=runs/benchmarks
while [ $# -gt 0 ]; do
    case $1 in
        --root) root=$2 ;;
        --cifar10) cifar10=$2 ;;
        --out) out=$2 ;;
        *) echo "unknown option $1: give --root, --cifar10 or --out" >&2; exit 2 ;;
    esac
    shift 2
done
[ -n "$cifar10" ] || { echo "give --cifar10 FOLDER, CIFAR-10 as images: train/CLASS/*" >&2; exit 2; }
mkdir -p "$out"
run() {
    echo "== $1" >&2
    "$python" "$here/$1.py" "${@:2}" --out "$out/$1.json" | tee "$out/$1.md"
}
run data_path --mnist "$root" --cifar10 "$cifar10"
run processes --root "$root"
run epoch --root "$root" --cifar10 "$cifar10"
run step_time
run profile_step
run scaling
run time_to_accuracy --root "$root"
"$python" "$here/communication.py" "$out/processes.json" | tee "$out/communication.md"
run streaming
