# Helpers of the scenarios, tests/chain/test_*.sh, which run the built programs the way
# a person does. Sourced from the repository's root. Results are printed as CMocka
# prints them, so that tests/run counts both alike.
#
# A scenario never touches the tree it is run in: it works in $work, a folder of its
# own that is gone at the end, on copies of the programs of $QUERN_TREE.

LC_ALL=C
export LC_ALL
unset NINJA_STATUS MAKEFLAGS

repo=$(pwd)
out=${QUERN_TREE:-out}
out=${out#"$repo"/}
work=$(mktemp -d "${TMPDIR:-/tmp}/quern-scenario.XXXXXX")
failed_tests=
skipped_tests=
# A tree that a scenario makes has a CUDA half if this one has.
if [ -f build.ninja ]; then
	CUDA_HOME=$(sed -n 's/^cuda = //p' build.ninja)
	CUDA_HOME=${CUDA_HOME:-/nonexistent}
	export CUDA_HOME
fi

clean_up() {
	cd "$repo" || exit 1
	chmod -R u+w "$work" 2>/dev/null
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

# ---- trees ----

# Where everything lies that ninja compares: with it a copied tree is as current as
# the one it was copied from.
copy_programs() {
	mkdir -p "$1/$out/obj"
	for part in bin libquern.a .ninja_log .ninja_deps; do
		cp -a "$repo/$out/$part" "$1/$out/"
	done
	for part in "$repo/$out"/obj/*; do
		case $part in */tests) ;; *) cp -a "$part" "$1/$out/obj/" ;; esac
	done
}

# make_tree FOLDER [CONFIGURE ARGUMENTS]: a configured tree of which everything is
# compiled and nothing else is built. Sources and demo data are links to the
# repository's; the template is a copy, and so is the catalog ($catalog, if that is
# set).
make_tree() {
	mkdir -p "$1"
	for part in configure.c setup lib kernels tools tests demo; do
		ln -s "$repo/$part" "$1/$part"
	done
	cp "$repo/build.ninja.in" "$1/"
	cp "${catalog:-$repo/schemes.json}" "$1/schemes.json"
	copy_programs "$1"
	(
		cd "$1"
		shift
		CC=$(sed -n 's/^cc = //p' "$repo/build.ninja") "$out/bin/configure" --out "$out" \
			"$@" >configured.txt
	)
}

# Makes the tree's demo/ files of its own, that may be changed.
own_demo() {
	rm "$1/demo"
	cp -r "$repo/demo" "$1/demo"
	chmod -R u+w "$1/demo"
}

# The programs into a folder, those with sanitizers where they are built: for bad input,
# which has its own paths through the code.
copy_tools() {
	mkdir -p "$1"
	programs=$out/sanitized/bin
	[ -x "$repo/$programs/scan" ] || programs=$out/bin
	for program in "$repo/$programs"/*; do
		case $program in *.map | *.digest) ;; *) cp -a "$program" "$1/" ;; esac
	done
	cp -a "$repo/$out"/bin/*.digest "$1/"
	[ -x "$1/configure" ] || cp -a "$repo/$out/bin/configure" "$1/"
}

# ---- looking at what a build did, in the current folder ----

# build [TARGETS]: runs ninja; what it printed is in build.txt.
build() {
	rm -f "$out/log/edges.jsonl"
	ninja "$@" >build.txt 2>&1 || {
		cat build.txt
		return 1
	}
}

# The build must fail; build.txt says how.
build_fails() {
	if build "$@" >/dev/null; then
		echo "expected a build that fails"
		return 1
	fi
}

# How many edges of the last build have a description that begins so.
edges() {
	grep -c "^\[[0-9]*/[0-9]*\] $1" build.txt || true
}

# How many results a tool computed, rather than took from the store, in the last build.
computed() {
	[ -f "$out/log/edges.jsonl" ] || {
		echo 0
		return
	}
	grep -c "\"tool\":\"$1\".*\"hit\":false" "$out/log/edges.jsonl" || true
}

# is WHAT FOUND EXPECTED
is() {
	[ "$2" = "$3" ] || {
		echo "$1: expected $3, found $2"
		return 1
	}
}

# The last build had nothing to do but look.
nothing_done() {
	grep -qx 'ninja: no work to do.' build.txt || {
		cat build.txt
		return 1
	}
}

# Digests of all files below a folder, by relative name.
digests() {
	(cd "$1" && find . -type f | sort | xargs sha256sum)
}

# ---- results ----

passed() {
	echo "[       OK ] $1"
}

# failed NAME [LOG]
failed() {
	echo "[  FAILED  ] $1"
	[ $# -lt 2 ] || sed 's/^/    /' "$2"
	failed_tests="$failed_tests $1"
}

# skipped NAME REASON
skipped() {
	echo "SKIP $1: $2"
	echo "[  SKIPPED ] $1"
	skipped_tests="$skipped_tests $1"
}

# check NAME COMMAND...: a test that passes when every step of the command (mostly a
# function) does. A step that answers 77 skips it; the last line is then the reason.
check() {
	name=$1
	shift
	echo "[ RUN      ] $name"
	(
		set -e
		"$@"
	) >"$work/check.log" 2>&1
	case $? in
	0) passed "$name" ;;
	77) skipped "$name" "$(tail -n 1 "$work/check.log")" ;;
	*) failed "$name" "$work/check.log" ;;
	esac
}

# fails CODE PATTERN COMMAND...: the command answers CODE and says why in one line on
# stderr, which begins with the program's name and matches the extended regular
# expression.
fails() {
	code=$1 pattern=$2
	shift 2
	found=0
	"$@" >"$work/fails.out" 2>"$work/fails.err" || found=$?
	if [ "$found" -eq "$code" ] && [ "$(wc -l <"$work/fails.err")" -eq 1 ] &&
		grep -q "^${1##*/}: " "$work/fails.err" &&
		grep -Eq -e "$pattern" "$work/fails.err"; then
		return 0
	fi
	echo "expected exit $code and one line with /$pattern/, found exit $found and:"
	cat "$work/fails.err"
	return 1
}

# spoiled_copy CHECKPOINT: of it in ./spoilt, to be written to.
spoiled_copy() {
	rm -rf spoilt
	cp -r "$1" spoilt
	chmod -R u+w spoilt
}

# reseal CARD: its last line gives the digest of those above it.
reseal() {
	sed -i "\$d" "$1"
	printf 'SHA-256 of all lines above: `%s`\n' "$(sha256sum <"$1" | cut -d' ' -f1)" >>"$1"
}

# relist FILE: the list in ./spoilt says what the file is now, and the card names the list.
relist() {
	list=$(echo spoilt/layer-sensitivity/*_files.json)
	sealed=$(sha256sum <"$list" | cut -d' ' -f1)
	digest=$(sha256sum <"spoilt/$1" | cut -d' ' -f1)
	size=$(stat -c %s "spoilt/$1")
	sed -i "\|\"$1\": {|,/}/ { s/\"sha256\": \"[^\"]*\"/\"sha256\": \"$digest\"/
		s/\"bytes\": [0-9]*/\"bytes\": $size/; }" "$list"
	sed -i "s/$sealed/$(sha256sum <"$list" | cut -d' ' -f1)/" spoilt/README.md
	reseal spoilt/README.md
}

# Nothing half-made lies below the folder.
no_leftovers() {
	left=$(find "$1" -name '*.tmp' -o -path '*/store/tmp/*' -type f)
	[ -z "$left" ] || {
		echo "left behind: $left"
		return 1
	}
}

# Ends the scenario; CMocka's summary names what failed once more.
finish() {
	for name in $skipped_tests; do echo "[  SKIPPED ] $name"; done
	for name in $failed_tests; do echo "[  FAILED  ] $name"; done
	[ -z "$failed_tests" ]
	exit
}
