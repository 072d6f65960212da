# Sourced by the loops after scenario.sh.

# make_small_model FOLDER
make_small_model() {
	ninja "$out/libsupport.a" "$out/libquern.a" >/dev/null
	${CC:-cc} -std=c11 -D_GNU_SOURCE -O2 -I. -o "$work/make_model" tests/faults/make_model.c \
		"$out/libsupport.a" "$out/libquern.a" $(sed -n 's/^libs = //p' build.ninja)
	"$work/make_model" "$1"
}
