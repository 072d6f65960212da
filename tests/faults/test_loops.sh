#!/bin/sh
# The fault loops in short: a few points of each kind. Whole, they are run by hand:
# docs/faults.md.
. tests/support/scenario.sh

killed_or_failing_tools() {
	tests/faults/run 2 scan slice export describe stats
}
damage_is_found() {
	tests/faults/flips 200 1
}
builds_at_once() {
	tests/faults/concurrent 1 8
}

check killed_or_failing_tools killed_or_failing_tools
check damage_is_found damage_is_found
check builds_at_once builds_at_once
finish
