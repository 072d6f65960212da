# Sourced by the loops after scenario.sh, in the repository's root.

# link_with_library NAME: $work/NAME of tests/faults/NAME.c.
link_with_library() {
	# shellcheck disable=SC2046 # libs are words
	${CC:-cc} -std=c11 -D_GNU_SOURCE -O2 -I. -o "$work/$1" "tests/faults/$1.c" \
		"$out/libsupport.a" "$out/libquern.a" $(sed -n 's/^libs = //p' build.ninja)
}

# make_small_model FOLDER
make_small_model() {
	link_with_library make_model
	"$work/make_model" "$1"
}
