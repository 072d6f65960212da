#!/bin/sh
# tools/probe.sh PROGRAM [ARGUMENTS of tools/probe.py]: finds a Python that has the program
# (vllm, transformers) and lets it load every built checkpoint.
#
# Looks at $QUERN_PYTHON and nothing else where that is set; else at the active virtual
# environment, at those of this folder, at the Python of the program's own command, and at
# python3.
set -u
program=$1
shift

has_program() { # PYTHON
	[ -n "$1" ] && command -v "$1" >/dev/null 2>&1 &&
		"$1" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$program') is None)" \
			>/dev/null 2>&1
}

candidates() {
	if [ -n "${QUERN_PYTHON:-}" ]; then
		echo "$QUERN_PYTHON"
		return
	fi
	[ -z "${VIRTUAL_ENV:-}" ] || echo "$VIRTUAL_ENV/bin/python"
	echo .venv/bin/python
	echo .venv-interop/bin/python
	command=$(command -v "$program" 2>/dev/null) && sed -n '1s/^#!\([^ ]*\)$/\1/p' "$command"
	echo python3
}

found=
while read -r python; do
	if has_program "$python"; then
		found=$python
		break
	fi
done <<-LIST
	$(candidates)
LIST
if [ -z "$found" ]; then
	echo "probe: found no Python that has $program; activate its environment or set" \
		"QUERN_PYTHON=/path/to/python" >&2
	exit 3
fi
exec "$found" tools/probe.py "$program" "$@"
