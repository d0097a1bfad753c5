# Sourced by the other scripts: makes a virtual environment and installs nstx into it.
#
#   use_environment NAME [EXTRA]   makes or reuses .venv-NAME at the top of the tree
#
# PYTHON chooses the interpreter; without it, the first on the path that is 3.11 or newer.

find_python() {
    local candidate candidates=(python3 python3.11 python3.12)
    if [ -n "${PYTHON:-}" ]; then candidates=("$PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "expected Python 3.11 or newer, got none; try PYTHON=/path/to/python3.11 $0" >&2
    return 1
}

use_environment() {
    local folder=".venv-$1" extra="${2:+[$2]}" python digest
    python=$(find_python)
    digest=$({ cat pyproject.toml constraints.txt; echo "$PWD"; "$python" -VV; } | cksum)
    if [ "$(cat "$folder/installed" 2>/dev/null)" != "$digest" ]; then
        echo "installing into $folder (PyTorch and ONNX Runtime are large)" >&2
        rm -rf "$folder"
        "$python" -m venv "$folder"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
            -c constraints.txt -e ".$extra"
        echo "$digest" >"$folder/installed"
    fi
    PATH="$PWD/$folder/bin:$PATH"
    export PATH
}
