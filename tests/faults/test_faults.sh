#!/bin/sh
# The fault loops in short: the whole ones are tests/faults/run, concurrent and flips.
. tests/support/scenario.sh

last_line_is_clean() {
	"$@" >"$work/loop.txt" 2>&1 || {
		cat "$work/loop.txt"
		return 1
	}
}

killed_anywhere() {
	KINDS='kill full' last_line_is_clean tests/faults/run 1 \
		scan calibrate merge score rank quantize slice export verify diversity
}
calls_that_fail() {
	KINDS='EIO EINTR short malloc' last_line_is_clean tests/faults/run 1 export scan
}
several_builds_at_once() {
	last_line_is_clean tests/faults/concurrent 2 6
}
flipped_bits() {
	last_line_is_clean tests/faults/flips 100 1
}

check killed_anywhere killed_anywhere
check calls_that_fail calls_that_fail
check several_builds_at_once several_builds_at_once
check flipped_bits flipped_bits
finish
